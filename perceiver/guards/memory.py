"""Guard against memory that runs out: what took how much of it, and how many rows would fit."""

import os
import resource
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from perceiver.adapters.presence import row_count, some_rows
from perceiver.cost.measure import activation_bytes
from perceiver.out_of_memory import is_out_of_memory

SAFETY = 0.6  # share of what is left that is given to what forward passes keep; the rest is for what a backward pass needs for a moment
MOST_PARTS = 4  # blocks that are named


class OutOfMemory(MemoryError):
    """A step needs more memory than there is."""


@dataclass(frozen=True)
class MemoryNeeded:
    """What a step takes.

    Args:
        weights: bytes of all weights and buffers.
        gradients: bytes of their gradients.
        optimizer: bytes of what the optimizer remembers.
        kept: bytes that forward passes keep for one row, by block.
        rows: of the batch that was too large.
        limit: bytes that there are.
    """

    weights: int
    gradients: int
    optimizer: int
    kept: Mapping[str, int]
    rows: int
    limit: int

    @property
    def fits(self) -> int:
        """Rows that fit; 0 when not even one does."""
        left = self.limit - self.weights - self.gradients - self.optimizer
        return max(0, min(self.rows - 1, int(SAFETY * left / max(1, sum(self.kept.values())))))

    def __str__(self) -> str:
        blocks = sorted(self.kept.items(), key=lambda item: -item[1])
        parts = [("weights", self.weights), ("gradients", self.gradients), ("optimizer", self.optimizer)]
        parts += [(f"kept by {name}", self.rows * size) for name, size in blocks[:MOST_PARTS]]
        if rest := sum(size for _, size in blocks[MOST_PARTS:]):
            parts.append(("kept by the other blocks", self.rows * rest))
        advice = f"A batch of {self.fits} rows should fit" if self.fits else "Not even one row fits: make the inputs or the model smaller"
        told = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in parts)
        return f"a step with {self.rows} rows does not fit into the {self.limit / 1e6:,.0f} MB that there are: {told}. {advice}" + (
            ", or `micro_batches` of the task, which splits a batch and keeps its size" if self.fits else ""
        )


class ExplainOutOfMemory(Callback):
    """When memory runs out in training, measures the model on one row and on two, and says which part takes how much, and how many rows fit."""

    def __init__(self) -> None:
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps the batch, to measure some of its rows."""
        self._batch = batch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lets go of it."""
        self._batch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Explains.

        Raises:
            OutOfMemory: in place of the error, which says no more than that there was none.
        """
        if not is_out_of_memory(exception) or not isinstance(self._batch, Mapping) or isinstance(exception, OutOfMemory):
            return
        traceback.clear_frames(exception.__traceback__)  # they hold what the step had built up
        pl_module.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            needed = memory_needed(pl_module, self._batch)
        except Exception:
            return  # there is no memory to find out how much there is: the error itself is all there is to say
        raise OutOfMemory(f"step {trainer.global_step}: {needed}") from exception


def memory_needed(task: Any, batch: Mapping[str, Tensor]) -> MemoryNeeded:
    """What a step takes, from the weights as they are, Adam's two numbers for each, and forward passes with few rows."""
    device = next(task.parameters()).device
    learns = sum(p.nbytes for p in task.parameters() if p.requires_grad)
    weights = sum(value.nbytes for value in task.state_dict().values())
    kept = kept_per_row(task.model, batch)
    return MemoryNeeded(weights, learns, 2 * learns, kept, row_count(batch), memory_limit(device))


def kept_per_row(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes that each block keeps for one row more."""
    one, two = (activation_bytes(model, some_rows(batch, slice(rows))) for rows in (1, 2))
    if row_count(batch) < 2:
        return one
    return {name: max(0, size - one.get(name, 0)) for name, size in two.items()}


def memory_limit(device: torch.device) -> int:
    """Bytes that this process may have: those of the GPU, or of the machine, its control group, or `ulimit -v`, whichever is least."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    control_group = Path("/sys/fs/cgroup/memory.max")
    if control_group.is_file() and (said := control_group.read_text().strip()).isdigit():
        limits.append(int(said))
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        pages = Path("/proc/self/statm").read_text().split()  # all that is mapped, and what of it is in memory
        limits.append(address_space - (int(pages[0]) - int(pages[1])) * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(limits))
