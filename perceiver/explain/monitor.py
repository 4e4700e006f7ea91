"""The cheap part of a report during training: is attention collapsing, is a modality starving?

Every so many steps the batch is read once more, without gradients, and what its attention did is logged like any other metric:

    attention/<layer>/entropy           normalised entropy, mean over rows, heads and latents; falling towards 0 is a collapse
    attention/<layer>/mass_<modality>   share of the attention
    attention/<layer>/spectral_norm     greatest singular value of W_K W_Q' over the root of the head width, greatest of the heads
    latents/effective_rank              of the latents of a row, behind the last block
    gradient/<modality>                 norm of the gradients of a modality's own parameters: adapter and projection

A layer that reads more than once, with the same weights, is numbered from its second read on: `encoder.cross.0 (2)`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from perceiver.adapters import Inputs
from perceiver.explain.attention.passage import Weighed, following, label, numbered
from perceiver.explain.attention.statistics import spectral_norms, statistics
from perceiver.explain.latents import effective_rank, latents_by_depth
from perceiver.rest import at_rest


class AttentionMonitor(Callback):
    """Logs what attention does while a model trains. Outputs, gradients and random numbers stay what they are without it, bit for bit.

    Args:
        every_n_steps: steps between two looks. One look takes about as long as half a step.

    Raises:
        ValueError: when it is below 1; and before training, when the model has no `inputs`.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: give at least 1")
        self.every_n_steps = every_n_steps
        self.gradients: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuses a model that cannot be looked at."""
        if not isinstance(getattr(pl_module.model, "inputs", None), Inputs):
            raise ValueError(f"an attention monitor needs a model whose `inputs` are perceiver.Inputs, and {type(pl_module.model).__name__} has none")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        """Keeps the gradients of each modality's own parameters, as they are before they are clipped."""
        if (trainer.global_step + 1) % self.every_n_steps == 0:
            model: Any = pl_module.model
            norms = gradient_norms(model.inputs)
            self.gradients = {f"gradient/{name}": norm for name, norm in norms.items()}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Looks at the batch once more, and logs what attention did."""
        if self.gradients and trainer.global_step % self.every_n_steps == 0:
            seen = look(pl_module, batch, trainer.precision_plugin.forward_context())
            found = {name: float(value) for name, value in (seen | self.gradients).items()}
            self.gradients = {}
            # Through `LightningModule.log`, a figure would be written again at each step until the next look.
            for logger in trainer.loggers:
                logger.log_metrics(found, step=trainer.global_step - 1)


def gradient_norms(inputs: Inputs) -> dict[str, Tensor]:
    """The norm of the gradients of each modality's adapter and projection."""
    found = {}
    for name, adapter in inputs.adapters.items():
        own = [*adapter.parameters(), *(inputs.projections[name].parameters() if name in inputs.projections else ())]
        gradients = [parameter.grad.detach() for parameter in own if parameter.grad is not None]
        found[name] = torch.linalg.vector_norm(torch.stack([g.float().norm() for g in gradients])) if gradients else torch.zeros(())
    return found


def look(task: Any, batch: Mapping[str, Tensor], asking: AbstractContextManager[Any]) -> dict[str, Tensor]:
    """What attention does with a batch, by the names under which it is logged.

    Args:
        task: whose model is asked.
        batch: as it takes it.
        asking: is around the model and its weights, as in training: of a trainer's precision.
    """
    model: nn.Module = task.model
    with at_rest(task), torch.no_grad(), following(model) as passage, latents_by_depth(model) as latents, asking:
        task(batch)
        reads = passage().reads
        seen = [statistics(Weighed(call)) for call in reads]
    found: dict[str, Tensor] = {}
    for layer, call, one in zip(numbered([label(call.layer) for call in reads]), reads, seen, strict=True):
        found[f"attention/{layer}/entropy"] = one.sharpness.nanmean()
        found |= {f"attention/{layer}/mass_{name}": mass.mean() for name, mass in one.mass.items()}
        found[f"attention/{layer}/spectral_norm"] = spectral_norms(call.attention).max()
    if latents:
        found["latents/effective_rank"] = effective_rank(list(latents.values())[-1].float()).mean()
    return found
