"""Small datasets of made-up rows, for tests of mixtures. Each row can be told from all others."""

import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from perceiver.data.augment import Augment
from perceiver.data.mixture.datamodule import MixedDataModule, Stream
from perceiver.data.rows import BadSample, Row, Rows
from perceiver.data.source import Source, Split


class ToyRows(Rows):
    """Rows made by a function of their number and a generator."""

    def __init__(self, length: int, make, bad: Sequence[int] = ()) -> None:
        self.length = length
        self.make = make
        self.bad = bad

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"row-{index}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        if index in self.bad:
            raise BadSample(self.name(index), "it is broken")
        return self.make(index, draw)


class ToyImages(Source):
    """Pictures (2, 6, 15), whose class is the number of the row modulo 3."""

    entries = ("image",)
    classes = ("a", "b", "c")

    def __init__(self, length: int = 41, *, bad: Sequence[int] = ()) -> None:
        self.length = length
        self.bad = bad

    def rows(self, split: Split) -> Rows:
        return ToyRows(self.length, make_image, self.bad)


def make_image(index: int, draw: np.random.Generator) -> Row:
    picture = torch.full((2, 6, 15), index % 3 / 3)
    picture[0, 0, 0] = index / 1000
    return {"image": picture, "target": index % 3}


class ToySounds(Source):
    """Sounds (1, s) of 5 to 64 samples, whose class is the number of the row modulo 5; a random offset in each."""

    entries = ("audio",)
    ragged = ("audio",)
    classes = ("v", "w", "x", "y", "z")

    def __init__(self, length: int = 53) -> None:
        self.length = length

    def rows(self, split: Split) -> Rows:
        return ToyRows(self.length, make_sound)


def make_sound(index: int, draw: np.random.Generator) -> Row:
    sound = torch.full((1, 5 + index), index % 5 / 5) + draw.random()
    return {"audio": sound, "target": index % 5}


class ToyTexts(Source):
    """Texts of 3 to 16 bytes, of which the first is masked."""

    entries = ("text",)
    ragged = ("text", "text_target")
    task = {"task": "masked_bytes", "modality": "text"}

    def __init__(self, length: int = 29) -> None:
        self.length = length

    def rows(self, split: Split) -> Rows:
        return ToyRows(self.length, make_text)


def make_text(index: int, draw: np.random.Generator) -> Row:
    ids = torch.arange(3 + index % 14) + 6 + index
    target = torch.zeros_like(ids)
    target[0] = ids[0]
    return {"text": torch.cat([torch.tensor([3]), ids[1:]]), "text_target": target}


class AddNoise(Augment):
    """Adds noise to pictures, and nothing else."""

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        return row | {"image": row["image"] + torch.from_numpy(draw.random(row["image"].shape, dtype=np.float32))}


def toy_mixture(**options: Any) -> MixedDataModule:
    """The three datasets in one mixture."""
    datasets = {"images": Stream(ToyImages(), augment=[AddNoise()]), "sounds": Stream(ToySounds()), "texts": Stream(ToyTexts())}
    defaults = dict(batch_size=6, steps_per_epoch=7, num_workers=0, seed=5, eval_batch_size=13)
    return MixedDataModule(datasets, **{**defaults, **options})


class KillAt(Callback):
    """Kills the process in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class TermAt(Callback):
    """Asks the process to end in the middle of a step, as a machine does that is taken away; with `everyone`, its data workers, too."""

    def __init__(self, step: int, everyone: bool = False) -> None:
        self.step = step
        self.everyone = everyone

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == self.step:
            os.kill(0 if self.everyone else os.getpid(), signal.SIGTERM)
