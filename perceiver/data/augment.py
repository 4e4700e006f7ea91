"""Augmentation: small changes that leave the meaning alone. All randomness comes from the generator that is passed in."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


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
