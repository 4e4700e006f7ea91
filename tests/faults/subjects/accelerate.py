"""Accelerate, in a loop as its examples have it: `load_state`, and the batches skipped that were seen.

The checkpoint is one folder, which is written again and again. With `--keep` it is one for each save, and the newest is resumed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tests.faults.subjects.toy import Fate, Samples, arguments, network


class Progress:
    """How many steps were made; registered, so that it is kept with the rest."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """What is kept."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on counting."""
        self.steps = state["steps"]


def newest(folder: Path) -> Path:
    """The newest checkpoint."""
    return max(folder.iterdir(), key=lambda one: one.stat().st_ctime_ns)


def main(words: Sequence[str]) -> None:
    """Trains."""
    asked = arguments(words)
    set_seed(1)
    fate, progress = Fate(asked), Progress()
    accelerator = Accelerator(cpu=True)
    net = network(asked.dropout)
    loader = DataLoader(Samples(asked.noise), batch_size=asked.batch_size, shuffle=not asked.in_order, num_workers=asked.workers)
    net, optimizer, loader = accelerator.prepare(net, torch.optim.Adam(net.parameters()), loader)
    accelerator.register_for_checkpointing(progress)
    if asked.resume:
        accelerator.load_state(newest(asked.checkpoints) if asked.resume == "newest" else asked.resume)
    epoch = loader
    if done := progress.steps % len(loader):
        epoch = accelerator.skip_first_batches(loader, done)
    while progress.steps < asked.steps:
        for batch in epoch:
            loss = cross_entropy(net(batch["rows"]), batch["labels"])
            fate.step(progress.steps, loss, batch["ids"])
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            progress.steps += 1
            if progress.steps % asked.save_every == 0:
                fate.before_save(progress.steps)
                accelerator.save_state(asked.checkpoints / (f"step_{progress.steps}" if asked.keep else "last"))
            if progress.steps == asked.steps:
                break
        epoch = loader
