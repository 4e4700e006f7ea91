"""Accelerate in a loop as its examples have it, given what is broken, and meant ill."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from tests.faults.subjects.faulty_peers import STEPS, Judged, act, resume_from_bomb


class Progress:
    """How many steps were made; registered, so that it is kept with the rest."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def train(
    folder: Path, network: Judged, rows: Dataset[Any], *, batch_size: int = 4, workers: int = 0, steps: int = STEPS, resume: str | None = None
) -> None:
    """Trains, and saves `state` at the end."""
    accelerator, progress = Accelerator(cpu=True), Progress()
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    loader = DataLoader(rows, batch_size=batch_size, num_workers=workers)
    network, optimizer, loader, schedule = accelerator.prepare(network, optimizer, loader, schedule)
    accelerator.register_for_checkpointing(progress)
    if resume:
        accelerator.load_state(resume)
    while progress.steps < steps:
        for batch in loader:
            accelerator.backward(network(**batch))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.steps += 1
            if progress.steps == steps:
                break
    accelerator.save_state(str(folder / "state"))


def main(words: Sequence[str]) -> None:
    """Does what is asked for."""
    if words[0] == "bomb":
        resume_from_bomb(["resume", *words[1:]], train)
    else:
        act(words, train)


if __name__ == "__main__":
    main(sys.argv[1:])
