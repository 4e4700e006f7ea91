"""What the peers are trained on: numbered rows, a small network, and what befalls the process that trains."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.faults.subjects.disk import fill
from tests.faults.subjects.strike import SURVIVED, Strike
from tests.faults.subjects.trace import note

ROWS, FEATURES, HIDDEN, CLASSES = 40, 16, 256, 4
LEFT = 400_000  # bytes that a full disk still has: less than a checkpoint, and more than its weights


class Samples(Dataset[dict[str, Tensor]]):
    """Rows of numbers, each with its own number.

    Args:
        noise: whether each row is augmented with random numbers, as they are drawn in a data worker.
    """

    def __init__(self, noise: bool) -> None:
        draw = torch.Generator().manual_seed(1)
        self.rows = torch.randn(ROWS, FEATURES, generator=draw)
        self.labels = torch.randint(CLASSES, (ROWS,), generator=draw)
        self.noise = noise

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        noise = 0.1 * torch.randn(FEATURES) if self.noise else 0.0
        return {"rows": self.rows[index] + noise, "labels": self.labels[index], "ids": torch.tensor(index)}


def network(dropout: bool) -> nn.Sequential:
    """A small network."""
    parts = [nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Dropout(0.1 if dropout else 0.0), nn.Linear(HIDDEN, HIDDEN), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(HIDDEN, CLASSES))


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What a run is to be like, and what befalls it.

    `--noise` augments the rows, `--in_order` takes them as they stand. At a step, in its middle, the process is killed,
    asked to end, or finds its disk full. `--strike` is at a moment of the second save.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--save_every", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--in_order", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--resume", nargs="?", const="newest")
    parser.add_argument("--kill_at", type=int)
    parser.add_argument("--term_at", type=int)
    parser.add_argument("--fill_at", type=int)
    parser.add_argument("--strike")
    asked = parser.parse_args(words)
    asked.checkpoints = asked.checkpoints or asked.folder / "checkpoints"
    return asked


class Fate:
    """Notes each step, and lets happen what was asked for.

    Args:
        asked: see `arguments`.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.strike = Strike(asked.strike) if asked.strike else None

    def step(self, number: int, loss: Tensor, ids: Tensor) -> None:
        """To be called in the middle of each step, when its loss is known.

        Args:
            number: of updates before it.
            loss: of the step.
            ids: of its samples.
        """
        if self.strike is not None and self.strike.undo:
            os._exit(SURVIVED)
        if number == self.asked.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.asked.term_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if number == self.asked.fill_at:
            fill(self.asked.checkpoints, LEFT)
        note(self.asked.folder, number, loss.item(), " ".join(str(number) for number in ids.tolist()))

    def before_save(self, number: int) -> None:
        """To be called before a checkpoint is saved, if one is.

        Args:
            number: of updates so far.
        """
        if self.strike is not None and number == 2 * self.asked.save_every:
            self.strike.arm()
