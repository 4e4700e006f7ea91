"""Lightning with its default settings, given what is broken, and meant ill."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.faults.subjects.faulty_peers import STEPS, Judged, act, resume_from_bomb


class Toy(L.LightningModule):
    """A small network as a task."""

    def __init__(self, network: Judged | None = None) -> None:
        super().__init__()
        self.network = Judged() if network is None else network

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        loss = self.network(**batch)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def train(
    folder: Path, network: Judged, rows: Dataset[Any], *, batch_size: int = 4, workers: int = 0, steps: int = STEPS, resume: str | None = None
) -> None:
    """Trains, and saves `toy.ckpt` at the end."""
    trainer = L.Trainer(accelerator="cpu", max_steps=steps, default_root_dir=folder, logger=False, enable_progress_bar=False)
    loader = DataLoader(rows, batch_size=batch_size, num_workers=workers)
    trainer.fit(Toy(network), loader, ckpt_path=resume)
    trainer.save_checkpoint(folder / "toy.ckpt")


def main(words: Sequence[str]) -> None:
    """Does what is asked for."""
    match list(words):
        case ["load", checkpoint]:
            Toy.load_from_checkpoint(checkpoint)
        case ["bomb", *rest]:
            resume_from_bomb(["resume", *rest], train)
        case _:
            act(words, train)


if __name__ == "__main__":
    main(sys.argv[1:])
