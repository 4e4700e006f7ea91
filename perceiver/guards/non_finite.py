"""Guard against NaN and infinity: a loss or a gradient that is either stops the training before it reaches a weight, and it is said whose it is."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from perceiver.adapters.presence import row_count
from perceiver.rest import at_rest

log = logging.getLogger(__name__)
MOST_NAMED = 8  # samples
SMALLEST_SCALE = 2.0**-10  # of a gradient scaler, which begins at 2^16 and halves: below, it is not the scale that makes gradients overflow


class NonFinite(ValueError):
    """A loss or a gradient is NaN or infinite."""


class StopNonFinite(Callback):
    """Looks at loss and gradients before each step of the optimizer: one number for all of them, so a GPU is waited for once a step.

    With 16-bit floats and a gradient scaler, gradients overflow as a matter of course, and the scaler leaves those steps out by itself: then only the
    loss is looked at, and whether the scaler finds a scale at which they do not overflow.

    Weights are looked at before they are saved, so that no checkpoint holds what a step itself has spoiled.

    Args:
        skip: how many steps may be left out in the whole run; weights and the optimizer's state stay as they are in those. The number
            of those that were is logged as `train/skipped`, and kept in the checkpoint.

    Raises:
        ValueError: when `skip` is negative.
    """

    def __init__(self, skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f"skip={skip}: give the number of steps that may be left out, 0 for none")
        self.skip = skip
        self.skipped = 0
        self._losses: list[Tensor] = []
        self._batches: list[tuple[int, Any]] = []

    def state_dict(self) -> dict[str, int]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on counting."""
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps the batch, in which the reason is looked for."""
        self._batches.append((trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1, batch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keeps the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Lets the step happen, leaves it out, or stops.

        Raises:
            NonFinite: naming the step, the datasets, the samples, and what is not finite.
        """
        losses, self._losses = self._losses, []
        batches, self._batches = self._batches, []
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        gradients = [] if scaler is not None else [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        bad = not all_finite(losses, gradients) or scaler is not None and scaler.get_scale() < SMALLEST_SCALE
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce_boolean_decision(bad, all=False)
        if not bad:
            return
        said = f"step {trainer.global_step}: {what(losses, pl_module)}{whose(trainer, pl_module, batches)}"
        if spoiled := first_bad_weight(pl_module):
            raise NonFinite(f"{said}. An earlier step has spoiled {spoiled}, and no checkpoint was written since: the last one is good")
        if self.skipped >= self.skip:
            after = f"{self.skipped} steps were left out before, as many as skip={self.skip} allows. " if self.skip else ""
            raise NonFinite(f"{said}. {after}No weight was changed by it, and no checkpoint written since: the last one is good")
        self.skipped += 1
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # an optimizer passes over what has no gradient, its own state included
        log.warning("%s. The step is left out, number %d of the %d that skip allows", said, self.skipped, self.skip)
        pl_module.log("train/skipped", float(self.skipped))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Looks at what is about to be saved.

        Raises:
            NonFinite: when a weight is not finite.
        """
        if not all_finite([], [parameter.detach() for parameter in pl_module.parameters()]):
            raise NonFinite(
                f"step {trainer.global_step}: {first_bad_weight(pl_module)} is not finite, although loss and gradients were: the optimizer has "
                "spoiled it. Nothing is saved, and the last checkpoint is good"
            )


def first_bad_weight(task: nn.Module) -> str | None:
    """The first weight that is not finite."""
    return next((name for name, parameter in task.named_parameters() if not bool(parameter.isfinite().all())), None)


def all_finite(losses: list[Tensor], gradients: list[Tensor]) -> bool:
    """Whether all numbers are, in one question to the device: a norm is finite only if they are. Where it overflows, each number is asked about."""
    sums = [loss.float().sum() for loss in losses]
    if gradients:
        sums.append(get_total_norm(gradients).float().to(sums[0].device if sums else gradients[0].device))
    if not sums or bool(torch.stack(sums).isfinite().all()):
        return True
    return all(bool(one.isfinite().all()) for one in (*losses, *gradients))


def what(losses: list[Tensor], task: nn.Module) -> str:
    """What is not finite."""
    if name := first_bad_weight(task):
        return f"the weights of {name} are not finite"
    if wrong := [loss for loss in losses if not bool(loss.isfinite().all())]:
        return f"the loss is {float(wrong[0].sum())}"
    for name, parameter in task.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return (
                f"the gradient of {name} is not finite (the loss is {float(losses[-1].sum()):g})"
                if losses
                else f"the gradient of {name} is not finite"
            )
    return "a loss or gradient is not finite, of another rank or before it was scaled down"


def whose(trainer: Trainer, task: Any, batches: list[tuple[int, Any]]) -> str:
    """The inputs that are not finite themselves, or the rows whose loss is not, or else all of the step."""
    try:
        return found_in(trainer, task, batches)
    except Exception as error:  # whatever a task or datamodule of the user's own does here, what there is to say is that a number is none
        log.warning("whose it is could not be found out (%s: %s)", type(error).__name__, " ".join(str(error).split())[:200])
        return ""


def found_in(trainer: Trainer, task: Any, batches: list[tuple[int, Any]]) -> str:
    """`whose`, as long as nothing goes wrong."""
    named = getattr(trainer.datamodule, "names", None)  # type: ignore[attr-defined]
    named = named if callable(named) else None
    for step, batch in batches:
        if not isinstance(batch, Mapping):
            continue
        names = [f"row {row}" for row in range(row_count(batch))] if named is None else named(step)
        if found := bad_entries(batch):
            entry, rows = found
            return f", and {entry} holds NaN or infinity in {listed(names, rows)}"
        if rows := bad_losses(task, batch):
            return f", because of {listed(names, rows)}"
        if named is not None:
            return f", in the step of {listed(names, list(range(len(names))))}"
    return ""


def bad_entries(batch: Mapping[str, Tensor]) -> tuple[str, list[int]] | None:
    """The first entry that is not finite in a row that has it, and these rows; an entry may hold those rows alone that have the modality."""
    for key, value in batch.items():
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim:
            continue
        wrong = (~value.flatten(1).isfinite()).any(1) if value.ndim > 1 else ~value.isfinite()
        present = batch.get(f"{key}_present")
        if present is not None and len(present) == len(wrong):
            wrong = wrong & present
        if bool(wrong.any()):
            if present is None or len(present) == len(wrong):
                return key, wrong.nonzero()[:, 0].tolist()
            return key, present.nonzero()[:, 0][wrong].tolist()
    return None


def bad_losses(task: Any, batch: Any) -> list[int]:
    """The rows whose own loss is not finite, where the task can judge single rows and not all of them are bad."""
    if not hasattr(task, "judge"):
        return []
    with torch.no_grad(), at_rest(task):
        losses, _ = task.judge(batch)
    rows = (~losses.isfinite()).nonzero()[:, 0].tolist()
    return rows if len(rows) < len(losses) else []


def listed(names: list[str], rows: list[int]) -> str:
    """The first of some rows by name, and how many more there are."""
    told = ", ".join(names[row] if row < len(names) else f"row {row}" for row in rows[:MOST_NAMED])
    return told + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")
