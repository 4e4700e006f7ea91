"""This library, trained on the toy mixture by its command line, with callbacks that note each step and let things happen to it."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from perceiver import checkpoints
from perceiver.cli import main as command_line
from tests.faults.subjects.disk import fill, flip
from tests.faults.subjects.strike import SURVIVED, Strike
from tests.faults.subjects.trace import note


def main(words: Sequence[str]) -> int:
    """Runs the command line, or saves a checkpoint over another one at some risk, or looks what is left, or spoils bits."""
    match list(words):
        case ["save", old, new, place, at]:
            return save_struck(Path(old), Path(new), Path(place), at)
        case ["look", old, new, place]:
            return look(Path(old), Path(new), Path(place))
        case ["flip", place]:
            return flip_all(Path(place))
    return command_line(list(words))


class Note(Callback):
    """Notes each step: the names of its rows, and a sum over all that came with them, augmented as it was.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Notes it."""
        step = trainer.global_step - 1
        names = trainer.datamodule.names(step)  # type: ignore[attr-defined]
        note(self.folder, step, outputs["loss"].item(), " ".join([*names, checksum(batch)]))


class StrikeSave(Callback):
    """Sends a signal to this process while the checkpoint of a step is saved.

    Args:
        step: of the checkpoint.
        at: moment of the save, see `Strike`.
        number: of the signal.
    """

    def __init__(self, step: int, at: int | str, number: int = 9) -> None:
        self.step = step
        self.strike = Strike(at, number)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Counts from here on; what is written comes next."""
        if trainer.global_step == self.step and not self.strike.undo:
            self.strike.arm()


class Fill(Callback):
    """Fills the disk in the middle of a step.

    Args:
        step: number of it.
        folder: where the disk is mounted.
        left: bytes that stay free.
    """

    def __init__(self, step: int, folder: str, left: int) -> None:
        self.step = step
        self.folder = Path(folder)
        self.left = left

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Fills it."""
        if trainer.global_step == self.step:
            fill(self.folder, self.left)


def checksum(batch: dict[str, Any]) -> str:
    """A sum over all tensors of a batch."""
    found = hashlib.sha256()
    for key, value in batch.items():
        if isinstance(value, Tensor):
            found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def save_struck(old: Path, new: Path, place: Path, at: str) -> int:
    """Saves one checkpoint, then another over it, and is killed at a moment of the second save; tells its moments if it is not.

    Args:
        old: the checkpoint that is there.
        new: the one that is to come.
        place: where.
        at: the moment, see `Strike`.
    """
    first, second = checkpoints.read(old), checkpoints.read(new)
    for _ in range(2):  # so that there is a previous one, too
        checkpoints.save(first, place)
    strike = Strike(at)
    strike.arm()
    checkpoints.save(second, place)
    strike.disarm()
    print(json.dumps(strike.moments))
    return SURVIVED


def look(old: Path, new: Path, place: Path) -> int:
    """Tells which of two checkpoints is found whole at a place, and saves again there."""
    warnings.simplefilter("ignore")  # it says which one is taken instead, and here that is told anyway
    found = checkpoints.resumable(place)
    checkpoints.read(found)
    sums = checkpoints.verify(found).files
    told = [name for name, one in (("old", old), ("new", new)) if checkpoints.verify(one).files == sums]
    checkpoints.save(checkpoints.read(new), place)
    again = checkpoints.verify(place).files == checkpoints.verify(new).files
    print(told[0] if told and again else "neither")
    return 0


def flip_all(place: Path, each: int = 40) -> int:
    """Reads a checkpoint with one bit flipped in a file, for bits all over its files, and back again. Tells how many times, or where it was read."""
    count = 0
    for file in sorted(place.iterdir()):
        size = file.stat().st_size
        for number in range(each):
            byte, bit = number * (size - 1) // (each - 1), number % 8
            flip(file, byte, bit)
            try:
                checkpoints.read(place)
            except checkpoints.Damaged as error:
                refused = str(file) in str(error)
            else:
                refused = False
            flip(file, byte, bit)
            if not refused:
                print(f"bit {bit} of byte {byte} of {file.name}")
                return 1
            count += 1
    checkpoints.read(place)
    print(count)
    return 0
