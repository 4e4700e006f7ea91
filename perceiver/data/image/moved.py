"""Pictures that move in a known way: pairs of frames for optical flow, made of any pictures.

Letters: c colours, y x rows and columns.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split


class MovedPictures(Source):
    """A picture, the same picture turned, scaled and shifted, and where each of its pixels went.

    A row holds `frames`, uint8 (2, 3, y, x), `flow`, float32 (y, x, 2), the movement to the right and down in pixels, and `flow_valid`, bool
    (y, x): which pixels are still in the second frame.

    Args:
        pictures: rows with `image`, uint8 (c, y, x) of one or three colours, or `video`, of which the first frame is taken.
        degrees: greatest turn to either side.
        scale: greatest change of size, as a share.
        shift: greatest shift along each axis, as a share of it.

    Raises:
        ValueError: when a greatest movement is negative, or the pictures have neither entry.
    """

    entries = ("frames",)

    def __init__(self, pictures: Source, *, degrees: float = 5.0, scale: float = 0.05, shift: float = 0.05) -> None:
        if min(degrees, scale, shift) < 0 or scale >= 1:
            raise ValueError(f"degrees={degrees}, scale={scale} and shift={shift}: give positive numbers, and a scale below 1")
        self.entry = next((name for name in ("image", "video") if name in pictures.entries), "")
        if not self.entry:
            raise ValueError(f"{type(pictures).__name__} has {', '.join(pictures.entries)}, and pictures are an entry image or video")
        self.pictures = pictures
        self.degrees = degrees
        self.scale = scale
        self.shift = shift

    @property
    def task(self) -> Mapping[str, Any]:
        """None of those that a mixture of tasks can have."""
        return {}

    def prepare(self) -> None:
        """Fetches the pictures."""
        self.pictures.prepare()

    def rows(self, split: Split) -> Rows:
        """A row for each picture of the split."""
        return MovedRows(self, self.pictures.rows(split))


class MovedRows(Rows):
    """Rows of one split.

    Args:
        source: says how far pictures move.
        pictures: the pictures.
    """

    def __init__(self, source: MovedPictures, pictures: Rows) -> None:
        self.source = source
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """The picture's."""
        return self.pictures.name(index)

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """Both frames and the movement between them."""
        picture = torch.as_tensor(self.pictures.row(index, draw)[self.source.entry])
        picture = picture[0] if self.source.entry == "video" else picture
        rows, columns = picture.shape[-2:]
        angle = math.radians(draw.uniform(-1, 1) * self.source.degrees)
        factor = 1 + draw.uniform(-1, 1) * self.source.scale
        shift = draw.uniform(-1, 1, size=2) * self.source.shift * (columns, rows)
        turn = factor * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        first, second, flow, valid = moved(picture.expand(3, -1, -1), turn, torch.from_numpy(shift).float())
        return {"frames": torch.stack([first, second]), "flow": flow, "flow_valid": valid}


def moved(
    picture: UInt8[Tensor, "3 y x"], turn: Float[Tensor, "2 2"], shift: Float[Tensor, " 2"]
) -> tuple[UInt8[Tensor, "3 y x"], UInt8[Tensor, "3 y x"], Float[Tensor, "y x 2"], Bool[Tensor, "y x"]]:
    """A picture, the picture after `place -> turn @ place + shift`, the movement of each pixel, and whether it is still to be seen.

    Args:
        picture: of any size.
        turn: acts on (x, y) in pixels, from the middle of the picture.
        shift: to the right and down, in pixels.
    """
    rows, columns = picture.shape[1:]
    half = torch.tensor([(columns - 1) / 2, (rows - 1) / 2])
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    place = torch.stack([x, y], -1) - half
    goes_to = place @ turn.T + shift
    comes_from = (place - shift) @ torch.linalg.inv(turn).T
    second = F.grid_sample(picture[None].float(), (comes_from / half)[None], mode="bilinear", padding_mode="border", align_corners=True)[0]
    return picture, second.round().clamp(0, 255).to(torch.uint8), goes_to - place, (goes_to.abs() <= half).all(-1)
