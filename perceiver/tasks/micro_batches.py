"""Micro-batches: a batch that does not fit into memory is gone through in parts, and the step is that of the whole batch.

The gradients of the parts are summed up before Lightning hears of the step, and handed over as those of one loss. So clipping, gradient scaling,
accumulation and the exchange between ranks see one batch, as they would have without parts.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters.presence import row_count, some_rows
from perceiver.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
PARTS = "perceiver_parts"  # entry of a checkpoint: parts that a batch was gone through in
Batch = dict[str, Tensor]


class MicroBatches:
    """Goes through each batch in parts, and halves them when memory runs out: the batch stays what it is, and takes longer.

    The loss is the mean over the whole batch, so a step is the one without parts, to rounding. What is drawn at random in the model (dropout,
    modality dropout) is drawn for each part; checkpoints keep the number of parts, so a resumed run draws the same. Not for weights that
    are spread over GPUs (FSDP), and not for float16.

        model:
          init_args:
            micro_batches: {class_path: perceiver.tasks.MicroBatches}

    Args:
        parts: to begin with; 1 = the whole batch, until memory runs out.
        most: parts, beyond which the error is let through.

    Raises:
        ValueError: when there is no part, or there are more than allowed.
    """

    def __init__(self, parts: int = 1, most: int = 1024) -> None:
        if not 1 <= parts <= most:
            raise ValueError(f"parts={parts} must be from 1 to most={most}")
        self.parts = parts
        self.most = most

    def __call__(self, model: nn.Module, loss: Callable[[Batch], Tensor], count: Callable[[Batch], Tensor], batch: Batch) -> Float[Tensor, ""]:
        """The loss of a batch, whose gradient is ready when its backward pass is asked for.

        Args:
            model: whose weights learn.
            loss: of a part, a mean.
            count: of what it is the mean of, in a part.
            batch: the whole.

        Raises:
            RuntimeError: when memory runs out even so.
        """
        while True:
            most, drawn = min(self.most, row_count(batch)), random_numbers()
            try:
                return self._in_parts(model, loss, count, batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.parts >= most:
                    raise
            # Outside of the handler, which holds the frames, and with them what was built up.
            self.parts = min(2 * self.parts, most)
            draw_again(drawn)  # a run that is resumed finds the number of parts anew, and is to draw what this one drew
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning("memory ran out: from now on a batch is gone through in %d parts", self.parts)

    def _in_parts(self, model: nn.Module, loss: Callable[[Batch], Tensor], count: Callable[[Batch], Tensor], batch: Batch) -> Float[Tensor, ""]:
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        sums: list[Tensor | None] = [None] * len(weights)
        rows = row_count(batch)
        size = -(-rows // self.parts)
        whole = count(batch).clamp_min(1)
        total = torch.zeros((), device=whole.device)
        for start in range(0, rows, size):
            part = some_rows(batch, slice(start, start + size))
            value = loss(part) * (count(part) / whole)
            total = total + value.detach()
            found = torch.autograd.grad(value, weights, allow_unused=True) if value.requires_grad else [None] * len(weights)
            sums = [added(old, new) for old, new in zip(sums, found, strict=True)]
            del value, found
        learned = [(weight, grad) for weight, grad in zip(weights, sums, strict=True) if grad is not None]
        apply: Any = WithGradient.apply
        return apply(total, [grad for _, grad in learned], *(weight for weight, _ in learned))


def random_numbers() -> tuple[Tensor, Tensor | None]:
    """Where the random numbers of the CPU and of the current GPU stand."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def draw_again(drawn: tuple[Tensor, Tensor | None]) -> None:
    """Goes back to where they stood."""
    torch.set_rng_state(drawn[0])
    if drawn[1] is not None:
        torch.cuda.set_rng_state(drawn[1])


def added(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    """The sum of two gradients, of which either may be missing; in the place of the first."""
    if old is None or new is None:
        return new if old is None else old
    return old.add_(new)


class WithGradient(torch.autograd.Function):
    """A number whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *weights: Tensor) -> Tensor:
        """The number as it is."""
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Any, ...]:
        """The known gradients, times what the number was multiplied with since."""
        return (None, None, *(gradient * factor.to(gradient.dtype) for gradient in ctx.gradients))
