"""Pairs of frames for the published optical flow, of any size from one tile on, and the movement of their pixels.

Large frames are cut into tiles that overlap; where they do, each tile counts the more the further a pixel lies from its edge
(DeepMind's notebook; Perceiver IO, appendix H).

Letters: b pairs, c colours, y x rows and columns.
"""

from collections.abc import Iterator

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from perceiver.models.optical_flow import OpticalFlow

PIXELS = 20.0  # of movement, for each unit that the model gives


def frame_entries(first: UInt8[Tensor, "b 3 y x"], second: UInt8[Tensor, "b 3 y x"]) -> dict[str, Float[Tensor, "b 2 27 y x"]]:
    """`frames` for `OpticalFlow`: each pixel in [-1, 1] with its eight neighbours, zeros beyond the edge; rows, columns, then colours.

    Raises:
        ValueError: when the frames are not bytes of three colours, or differ in size.
    """
    for frame in (first, second):
        if frame.dtype != torch.uint8 or frame.ndim != 4 or frame.shape[1] != 3 or frame.shape != first.shape:
            shapes = f"{tuple(first.shape)} and {tuple(second.shape)}, {frame.dtype}"
            raise ValueError(f"frames of {shapes}: give bytes of one shape (pairs, 3, rows, columns)")
    pixels = torch.stack([first, second], 1) / 255 * 2 - 1
    neighbours = F.unfold(pixels.flatten(0, 1), 3, padding=1)
    rows = first.shape[2]
    return {"frames": rearrange(neighbours, "(b t) (c p q) (y x) -> b t (p q c) y x", t=2, p=3, q=3, y=rows)}


@torch.no_grad()
def optical_flow(
    model: OpticalFlow, first: UInt8[Tensor, "b 3 y x"], second: UInt8[Tensor, "b 3 y x"], *, overlap: int = 20
) -> Float[Tensor, "b y x 2"]:
    """Where each pixel of the first frame goes: to the right and down, in pixels.

    Args:
        model: with published weights, or trained alike.
        first: frames in bytes.
        second: those that follow them.
        overlap: rows and columns that neighbouring tiles share at least.

    Raises:
        ValueError: when the frames are smaller than a tile, or the overlap is not smaller.
    """
    frames = frame_entries(first, second)["frames"]
    rows, columns = model.size
    height, width = frames.shape[-2:]
    weight = tile_weight(rows, columns).to(frames.device)
    total = frames.new_zeros(len(frames), height, width, 2)
    count = frames.new_zeros(height, width, 1)
    for y in starts(height, rows, overlap):
        for x in starts(width, columns, overlap):
            tile = (slice(y, y + rows), slice(x, x + columns))
            total[:, *tile] += model({"frames": frames[..., *tile]}) * weight
            count[*tile] += weight
    return total / count * PIXELS


def starts(length: int, tile: int, overlap: int) -> Iterator[int]:
    """Where tiles start along an axis; the last one ends with the axis.

    Raises:
        ValueError: when the axis is shorter than a tile, or the overlap is not shorter.
    """
    if length < tile or not 0 <= overlap < tile:
        raise ValueError(
            f"{length} pixels cannot be covered by tiles of {tile} that share {overlap}: give frames of at least {tile}, and an overlap below it"
        )
    yield from range(0, length - tile, tile - overlap)
    yield length - tile


def tile_weight(rows: int, columns: int) -> Float[Tensor, "y x 1"]:
    """How much each pixel of a tile counts: its distance from the nearest edge, 1 at the edge itself."""
    y, x = (torch.minimum(torch.arange(n) + 1, n - torch.arange(n)) for n in (rows, columns))
    return torch.minimum(y[:, None], x[None])[..., None].float()
