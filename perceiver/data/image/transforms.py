"""Pictures of any dataset: figures to standardise their pixels with, and torchvision's transforms as an augmentation."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from perceiver.data.augment import Augment
from perceiver.data.rows import Row, Rows


def pixel_statistics(rows: Rows, *, entry: str = "image", limit: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels in [0, 1], one of each a channel: `mean` and `std` of `ImagePatches`.

    Rows are read one at a time, so they need not fit into memory; those without a picture do not count.

    Args:
        rows: of the training split.
        entry: the picture's name in a row, (c, y, x), bytes or floats in [0, 1].
        limit: how many rows to read, spread evenly over all; all of them when not given.

    Raises:
        ValueError: when no row has a picture, or the pictures differ in their channels.
        BadSample: when a picture cannot be decoded.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: give at least 1 row, or None for all")
    count = min(len(rows), limit or len(rows))
    total, squares, pixels = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64), 0
    for index in (number * len(rows) // count for number in range(count)):
        row = rows.row(index, np.random.default_rng(index))
        if entry not in row:
            continue
        values = by_channel(row[entry])
        if pixels == 0:
            total, squares = torch.zeros(2, len(values), dtype=torch.float64)
        if len(values) != len(total):
            raise ValueError(f"{rows.name(index)} has {len(values)} channels, and pictures before it {len(total)}: bring them to the same number")
        total += values.sum(1)
        squares += values.square().sum(1)
        pixels += values.shape[1]
    if pixels == 0:
        raise ValueError(f"none of {count} rows has a picture under {entry!r}: give the entry that has")
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp_min(0).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def by_channel(image: Tensor) -> Float64[Tensor, "c p"]:
    """The pixels of a picture in [0, 1], channel by channel."""
    values = image.flatten(1).double()
    return values / 255 if image.dtype == torch.uint8 else values


class Transforms(Augment):
    """Any of torchvision's transforms (`torchvision.transforms.v2`), one after another.

    They draw from PyTorch's generator, which is seeded from the row's own for their time and put back afterwards.

    Args:
        entry: the picture, (c, y, x).
        transforms: modules from a picture to a picture.
    """

    def __init__(self, entry: str, transforms: Sequence[nn.Module]) -> None:
        self.entry = entry
        self.transforms = transforms

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The row with another picture, if it has one."""
        if self.entry not in row:
            return row
        image = row[self.entry].clone()  # some transforms work in place
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(draw.integers(2**63)))  # not torch.manual_seed, which seeds every device
            for transform in self.transforms:
                image = transform(image)
        return row | {self.entry: image}
