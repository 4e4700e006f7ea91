"""What befalls a run of this library from within: datasets, augmentations and callbacks that a configuration can name; and reading, call by call."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from perceiver import checkpoints, from_pretrained
from perceiver.cli import main as command_line
from perceiver.data.augment import Augment
from perceiver.data.image.file import decode_picture
from perceiver.data.limits import Limits
from perceiver.data.mixture.sharding import write_shards
from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split
from perceiver.tasks import Multitask
from tests.faults.subjects.faulty_files import peak_bytes
from tests.faults.subjects.faulty_strikes import limit_memory, strike
from tests.toy_datasets import ToyImages, toy_mixture

READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoints.read": checkpoints.read,
    "checkpoints.resumable": checkpoints.resumable,
    "load_from_checkpoint": Multitask.load_from_checkpoint,
    "from_pretrained": from_pretrained,
    "write_shards": lambda folder: write_shards(ToyImages(0), folder),
    "decode_picture": lambda file: decode_picture(file.name, file.read_bytes(), 3, Limits()),
}


def main(words: Sequence[str]) -> int:
    """Runs the command line; or reads a file with some of the readers, and tells in the last line what each said, and the bytes that it took."""
    if words[0] != "read":
        return command_line(list(words))
    print(json.dumps({name: read(READERS[name], words[1]) for name in words[2:]}))
    return 0


def read(reader: Callable[[Any], Any], where: str) -> dict[str, Any]:
    """What a reader said of a file, or an address, and the bytes that it took. An empty word says that it took it for good."""
    told = ""

    def call() -> None:
        nonlocal told
        try:
            reader(where if "://" in where else Path(where))
        except ValueError as error:
            told = str(error)

    return {"bytes": peak_bytes(call), "said": told}


class LargePictures(Source):
    """Pictures (2, 48, 48) of noise, whose class is the number of the row modulo 3.

    Args:
        length: rows of the training split.
    """

    entries = ("image",)
    classes = ("a", "b", "c")

    def __init__(self, length: int = 5_000) -> None:
        self.length = length

    def rows(self, split: Split) -> Rows:
        """As many in the training split as were asked for, and a few in the others."""
        return PictureRows(self.length if split == "train" else 7)


class TrainEmpty(ToyImages):
    """Toy pictures, of which none is for training."""

    def rows(self, split: Split) -> Rows:
        """None in the training split."""
        return ToyImages(0 if split == "train" else 41).rows(split)


class ValEmpty(ToyImages):
    """Toy pictures, of which none is for validation."""

    def rows(self, split: Split) -> Rows:
        """None in the validation split."""
        return ToyImages(0 if split == "val" else 41).rows(split)


class PictureRows(Rows):
    """Pictures of noise.

    Args:
        length: how many.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """The number of the row."""
        return f"picture-{index}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """A picture."""
        return {"image": torch.from_numpy(draw.random((2, 48, 48), dtype=np.float32)), "target": index % 3}


class Spoil(Augment):
    """Puts a number into one of the toy pictures, which are told by their first pixel.

    Args:
        row: number of the picture.
        value: that goes into its second channel, in words; it may be infinite, or so large that a network's numbers overflow.
    """

    def __init__(self, row: int, value: str) -> None:
        self.row = row
        self.value = float(value)

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        picture: Tensor = row["image"].clone()
        if round(1000 * float(picture[0, 0, 0])) == self.row:
            picture[1] = self.value
        return row | {"image": picture}


def spoiled(row: int, value: float) -> str:
    """The option with which a number is put into one of the toy pictures of a run."""
    given = {"class_path": f"{Spoil.__module__}.Spoil", "init_args": {"row": row, "value": str(value)}}
    return f"--data.init_args.datasets.images.augment={json.dumps([given])}"


def step_of_a_picture(after: int) -> tuple[int, int]:
    """The first step of the toy mixture, after some others, that is made of pictures; and the number of one of them, which comes first there."""
    data = toy_mixture(seed=0)
    data.setup("fit")
    seen: set[str] = set()
    for step in range(100):
        names = data.names(step)
        if step >= after and names[0].startswith("images/") and names[0] not in seen:
            return step, int(names[0].removeprefix("images/row-"))
        seen |= set(names)
    raise RuntimeError("the toy mixture has no pictures")


class SpoilLoss(Multitask):
    """Trains like `Multitask`, but that the loss of one step is another number.

    Args:
        model: see `Multitask`.
        tasks: likewise.
        spoiled: what the loss is multiplied with, in words.
        at: number of the step.
        training: see `Multitask`.
    """

    def __init__(self, model: nn.Module, tasks: Mapping[str, Mapping[str, Any]], spoiled: str, at: int = 5, **training: Any) -> None:
        super().__init__(model, tasks, **training)
        self.spoiled = float(spoiled)
        self.at = at

    def train_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean of all rows, or the other number."""
        loss = super().train_loss(batch)
        return loss * self.spoiled if self.global_step == self.at else loss


class StrikeWorker(Augment):
    """Kills the data worker that reads a picture, or lets it hang; elsewhere it does nothing.

    Args:
        how: "killed" or "hangs".
        folder: where it is noted when that was.
        after: so many pictures.
    """

    def __init__(self, how: str, folder: str, after: int = 10) -> None:
        self.how = how
        self.folder = Path(folder)
        self.left = after

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        self.left -= 1
        if self.left < 0 and get_worker_info() is not None:
            strike(self.how, self.folder)
        return row


class KillWorker(Callback):
    """Kills a data worker in the middle of a step, when the main process does not wait for it.

    Args:
        step: number of it.
        folder: where it is noted when that was.
    """

    def __init__(self, step: int, folder: str) -> None:
        self.step = step
        self.folder = Path(folder)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Kills the one that was started last, which makes batches of training."""
        if trainer.global_step == self.step:
            worker = max(multiprocessing.active_children(), key=lambda child: child.pid or 0)
            strike("killed", self.folder, worker.pid)
            time.sleep(0.2)  # so that the system tells this process now


class CutFile(Callback):
    """Cuts half of a file off when training starts.

    Args:
        file: which.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Cuts it."""
        os.truncate(self.file, self.file.stat().st_size // 2)


class LimitMemory(Callback):
    """Allows the process so many more bytes of address space than it has when training starts.

    Args:
        more: bytes.
    """

    def __init__(self, more: int) -> None:
        self.more = more

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sets the limit."""
        limit_memory(self.more)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
