"""Guard against memory that runs out: what took how much of it, and how many rows fit."""

import logging
import os
import resource
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from perceiver.adapters.presence import row_count, some_rows
from perceiver.cost.measure import activation_bytes
from perceiver.guards.explained import explain
from perceiver.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
SAFETY = 0.8  # share of what is left that a first trial gives to what forward passes keep; the rest is for what a backward pass needs for a moment
SMALLER = 0.75  # from one trial to the next
ROOM = 2 / 3  # share of the rows of a trial that is advised: in step after step, free memory comes to lie in pieces
MOST_PARTS = 4  # blocks that are named
FEW_ROWS = 5  # that the model is measured on
CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryNeeded:
    """What a step takes.

    Args:
        weights: bytes of all weights and buffers.
        gradients: bytes of their gradients.
        optimizer: bytes of what the optimizer remembers.
        kept: bytes that forward passes keep for one row, by block.
        rows: of the batch that was too large.
        limit: bytes that there are for all of these.
    """

    weights: int
    gradients: int
    optimizer: int
    kept: Mapping[str, int]
    rows: int
    limit: int

    @property
    def estimate(self) -> int:
        """Rows that should fit; 0 when not even one should."""
        left = self.limit - self.weights - self.gradients - self.optimizer
        return max(0, min(self.rows - 1, int(SAFETY * left / max(1, sum(self.kept.values())))))

    def __str__(self) -> str:
        blocks = sorted(self.kept.items(), key=lambda item: -item[1])
        parts = [("weights", self.weights), ("gradients", self.gradients), ("optimizer", self.optimizer)]
        parts += [(f"kept by {name}", self.rows * size) for name, size in blocks[:MOST_PARTS]]
        if rest := sum(size for _, size in blocks[MOST_PARTS:]):
            parts.append(("kept by the other blocks", self.rows * rest))
        told = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in parts)
        return f"a step with {self.rows} rows does not fit into the {self.limit / 1e6:,.0f} MB that there are for it: {told}"


class ExplainOutOfMemory(Callback):
    """When memory runs out in training, measures the model on a few rows, and says which part takes how much, and how many rows fit.

    That they do is tried, with a forward and a backward pass, on a single rank; with several ranks it is an estimate.
    """

    def __init__(self) -> None:
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps the batch, to measure some of its rows."""
        self._batch = batch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lets go of it."""
        self._batch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Explains the error, which says no more than that there was none."""
        if not is_out_of_memory(exception) or not isinstance(self._batch, Mapping):
            return
        traceback.clear_frames(exception.__traceback__)  # they hold what the step had built up
        pl_module.zero_grad(set_to_none=True)
        release()
        try:
            with trainer.precision_plugin.forward_context():
                needed = memory_needed(pl_module, self._batch, trainer.optimizers)
            advice = advised(needed, pl_module, self._batch, trainer)
        except Exception as error:  # there may be no memory to find out how much there is: then the error itself is all there is to say
            log.warning("what took the memory could not be found out (%s: %s)", type(error).__name__, " ".join(str(error).split())[:200])
            return
        explain(exception, f"step {trainer.global_step}: {needed}. {advice}")


def memory_needed(task: Any, batch: Mapping[str, Tensor], optimizers: list[Any]) -> MemoryNeeded:
    """What a step takes: weights as they are, what the optimizer has, or Adam would have, and what forward passes with a few rows keep."""
    device = next(task.parameters()).device
    learns = sum(p.nbytes for p in task.parameters() if p.requires_grad)
    weights = sum(value.nbytes for value in task.state_dict().values())
    remembered = sum(optimizer_bytes(one) for one in optimizers)
    limit = free_bytes(device) + weights + remembered
    return MemoryNeeded(weights, learns, remembered or 2 * learns, kept_per_row(task.model, batch), row_count(batch), limit)


def optimizer_bytes(optimizer: Any) -> int:
    """Bytes of what an optimizer remembers by now; before its first step that is nothing."""
    return sum(value.nbytes for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor))


def kept_per_row(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes that each block keeps for one row more."""
    few = min(FEW_ROWS, row_count(batch))
    if few < 2:
        return activation_bytes(model, batch)
    one, some = (activation_bytes(model, some_rows(batch, slice(rows))) for rows in (1, few))
    return {name: max(0, size - one.get(name, 0)) // (few - 1) for name, size in some.items()}


def advised(needed: MemoryNeeded, task: Any, batch: Mapping[str, Tensor], trainer: Trainer) -> str:
    """What to do about it."""
    instead = "or give the task `micro_batches`, which split a batch and keep its size"
    if getattr(task, "micro_batches", None) is not None:
        instead = "or let `micro_batches` make more parts of it (most)"
    if trainer.world_size > 1 and needed.estimate:
        return f"A batch of {needed.estimate} rows on each of {trainer.world_size} ranks should fit: make it smaller, {instead}"
    missing = 0 if any(optimizer_bytes(one) for one in trainer.optimizers) else needed.optimizer
    rows = needed.estimate
    while rows and not goes_through(task, batch, rows, missing + needed.gradients, trainer.precision_plugin.forward_context()):
        rows = int(SMALLER * rows)
    if not rows:
        return "Not even one row fits: make the inputs or the model smaller"
    return f"A batch of {max(1, int(ROOM * rows))} rows fits, as a trial with {rows} has shown: make it smaller, {instead}"


def goes_through(task: Any, batch: Mapping[str, Tensor], rows: int, reserved: int, context: AbstractContextManager[Any]) -> bool:
    """Whether forward and backward passes of some rows of a batch fit, beside a number of bytes that the optimizer's step will take."""
    held = found = loss = None
    try:
        with context:
            held = torch.empty(reserved, dtype=torch.uint8, device=next(task.parameters()).device)
            loss = task.train_loss(some_rows(batch, slice(rows)))
            found = torch.autograd.grad(loss, [parameter for parameter in task.parameters() if parameter.requires_grad], allow_unused=True)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        del held, found, loss
        release()
    return True


def release() -> None:
    """Gives memory that is not in use back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Bytes that this process may have beside those that it has: of the GPU, or else of the machine, its control group, or `ulimit -v`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [available_bytes()]
    with suppress(OSError, ValueError, KeyError):  # "max", which is no number, where the group has no limit
        used = int((CONTROL_GROUP / "memory.current").read_text()) - numbers(CONTROL_GROUP / "memory.stat")["inactive_file"]
        free.append(int((CONTROL_GROUP / "memory.max").read_text()) - used)
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        with suppress(OSError):
            free.append(address_space - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())
    return max(0, min(free))


def available_bytes() -> int:
    """Bytes of the machine that are free or could be freed; all that it has, where that is not said."""
    try:
        return 1024 * numbers(Path("/proc/meminfo"))["MemAvailable"]
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def numbers(file: Path) -> dict[str, int]:
    """The first number of each line, by the word before it."""
    words = (line.replace(":", " ").split() for line in file.read_text().splitlines())
    return {name: int(number) for name, number, *_ in words}
