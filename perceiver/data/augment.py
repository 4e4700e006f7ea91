"""Augmentation: small changes that leave the meaning alone. All randomness comes from the generator that is passed in."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from perceiver.data.rows import Row


class Augment(ABC):
    """Changes a row of the training split. It gets the row's own generator, and draws from nothing else."""

    @abstractmethod
    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The changed row; the one that was given stays as it was."""


def move_picture(
    image: Float[Tensor, "c y x"], draw: np.random.Generator, *, degrees: float = 10.0, shift: float = 0.08, scale: float = 0.1
) -> Float[Tensor, "c y x"]:
    """Turns, moves (by a share of the side) and resizes a picture, interpolating; what comes in from outside is zero."""
    angle = math.radians(draw.uniform(-degrees, degrees))
    zoom = draw.uniform(1 - scale, 1 + scale)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    dx, dy = draw.uniform(-2 * shift, 2 * shift, size=2)
    grid = F.affine_grid(torch.tensor([[[cos, -sin, dx], [sin, cos, dy]]], dtype=image.dtype), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


def grain(image: Float[Tensor, "c y x"], draw: np.random.Generator, *, strength: float = 0.2) -> Float[Tensor, "c y x"]:
    """Adds white noise of a standard deviation between 0 and `strength` to a picture in [0, 1]."""
    noise = draw.standard_normal(image.shape, dtype=np.float32) * (strength * draw.random())
    return image + torch.from_numpy(noise)


def jitter_sound(
    wave: Float[Tensor, "c s"], draw: np.random.Generator, *, speed: float = 0.2, decibels: float = 6.0, noise: float = 0.005, shift: int = 400
) -> Float[Tensor, "c t"]:
    """Plays a sound faster or slower (with its pitch), quieter, later (by up to `shift` samples), and under faint white noise."""
    length = max(1, round(wave.shape[-1] / draw.uniform(1 - speed, 1 + speed)))
    wave = F.interpolate(wave[None], size=length, mode="linear", align_corners=False)[0]
    wave = wave * 10 ** (-draw.uniform(0, decibels) / 20)
    wave = F.pad(wave, (int(draw.integers(shift + 1)), int(draw.integers(shift // 4 + 1))))
    hiss = draw.standard_normal(wave.shape, dtype=np.float32) * (noise * draw.random())
    return wave + torch.from_numpy(hiss)


class MovePicture(Augment):
    """Turns, moves and resizes a picture, and adds grain to it.

    Args:
        entry: the picture, (c, y, x), uint8 or floats in [0, 1]; it becomes floats.
        degrees: the most that it is turned.
        shift: the most that it is moved, as a share of the side.
        scale: the most that it grows or shrinks, as a share of its size.
        strength: the largest standard deviation of the grain.
    """

    def __init__(self, entry: str = "image", *, degrees: float = 10.0, shift: float = 0.08, scale: float = 0.1, strength: float = 0.0) -> None:
        self.entry = entry
        self.degrees = degrees
        self.shift = shift
        self.scale = scale
        self.strength = strength

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The row with another picture, if it has one."""
        if self.entry not in row:
            return row
        image = row[self.entry]
        image = image / 255 if image.dtype == torch.uint8 else image
        moved = move_picture(image, draw, degrees=self.degrees, shift=self.shift, scale=self.scale)
        return row | {self.entry: grain(moved, draw, strength=self.strength)}


class JitterSound(Augment):
    """Plays a sound faster or slower, quieter, later, and under faint white noise.

    Args:
        entry: the waveform, (c, s).
        speed: the most that it is faster or slower, as a share; its pitch follows.
        decibels: the most that it is quieter.
        noise: the largest standard deviation of the noise.
        shift: the most samples of silence before it.
        max_samples: what the adapter takes; a sound that grows longer is cut at its end.
    """

    def __init__(
        self,
        entry: str = "audio",
        *,
        speed: float = 0.2,
        decibels: float = 6.0,
        noise: float = 0.005,
        shift: int = 400,
        max_samples: int | None = None,
    ) -> None:
        self.entry = entry
        self.speed = speed
        self.decibels = decibels
        self.noise = noise
        self.shift = shift
        self.max_samples = max_samples

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The row with another sound, if it has one."""
        if self.entry not in row:
            return row
        wave = jitter_sound(row[self.entry], draw, speed=self.speed, decibels=self.decibels, noise=self.noise, shift=self.shift)
        return row | {self.entry: wave[..., : self.max_samples]}


class Missing(Augment):
    """Leaves modalities out of a row, but never all that it has: rows as they come from a world where a sensor fails.

    Args:
        entries: modalities that may go.
        probability: that one of them goes.

    Raises:
        ValueError: when the probability is not in [0, 1].
    """

    def __init__(self, entries: Sequence[str], probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability}: give a number in [0, 1]")
        self.entries = tuple(entries)
        self.probability = probability

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The row without what was drawn to go. Where nothing would be left, one stays, each equally likely."""
        here = [entry for entry in self.entries if entry in row]
        draws = draw.random(len(here))
        gone = [entry for entry, number in zip(here, draws, strict=True) if number < self.probability]
        if here and len(gone) == len(here):
            gone.remove(here[int(draws.argmax())])
        return {key: value for key, value in row.items() if key not in gone}
