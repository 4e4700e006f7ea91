"""The sums over a grid by Triton kernels: how a grid is cut into strips, and how what was found in each is put together.

The kernels compile the first time that they meet a new kind of grid (a few seconds), and Triton keeps them. Where there is no Triton, or in another
precision than float32, tiles of PyTorch operations do the work.

Letters: b batch, n queries, c data channels, r rows of the grid, q columns, m = r q tokens, s strips side by side, h one above the other.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from perceiver.grid_attention.tiles import Given, Sums

LOG2E = 1.4426950408889634
FEW = 4  # channels
ENOUGH = 4  # programs for each processor of the device, so that none waits


@dataclass(frozen=True)
class Block:
    """What one program has at a time: queries, columns of a strip, and warps to work with. What measured best, and what fits in registers."""

    queries: int
    columns: int
    warps: int


@functools.cache
def available() -> bool:
    """Whether there is a Triton."""
    return importlib.util.find_spec("triton") is not None


def _queries_last(x: Tensor) -> Tensor:
    """The same array, (..., n, _), with queries side by side in memory."""
    return x.mT.contiguous().mT


def _room(like: Tensor, *shape: int) -> Tensor:
    """For a result, (..., n, _), with queries last but one in memory."""
    return like.new_empty(shape)


def _room_queries_last(like: Tensor, *shape: int) -> Tensor:
    """For a result, (..., n, _), with queries side by side in memory."""
    return like.new_empty(*shape[:-2], shape[-1], shape[-2]).mT


@dataclass(frozen=True)
class Kernels:
    """Three kernels, how the arrays are to lie in memory, and the block that each is to have.

    Attributes:
        module: holds them.
        laid: lays out what belongs to queries.
        room: makes room for such.
        data: lays out data where gradients of tokens are computed.
    """

    module: ModuleType
    laid: Callable[[Tensor], Tensor]
    room: Callable[..., Tensor]
    data: Callable[[Tensor], Tensor]
    forward: Block
    queries: Block
    tokens: Block


@functools.cache
def kernels(channels: int) -> Kernels:
    """Those for data of so many channels."""
    if channels <= FEW:
        few = importlib.import_module("perceiver.grid_attention.gpu.few_channels")
        return Kernels(few, _queries_last, _room_queries_last, Tensor.contiguous, Block(128, 16, 1), Block(128, 8, 1), Block(8, 128, 1))
    many = importlib.import_module("perceiver.grid_attention.gpu.many_channels")
    return Kernels(many, Tensor.contiguous, _room, _queries_last, Block(64, 32, 4), Block(64, 32, 4), Block(32, 64, 4))


def _options(c: int) -> dict[str, Any]:
    """How channels are multiplied: few by themselves; many by matrix products, whose bits are all there unless PyTorch's own may lack some, too."""
    if c <= FEW:
        return {"C": c}
    return {"C": c, "CP": max(16, _power(c)), "PRECISION": "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"}


@dataclass(frozen=True)
class Cut:
    """How a grid is cut up.

    Attributes:
        block: what a program has at a time.
        blocks: of queries.
        strips: side by side.
        stories: one above the other.
        height: rows of a strip.
    """

    block: Block
    blocks: int
    strips: int
    stories: int
    height: int


def _power(x: int) -> int:
    """The first power of two that is not below x."""
    return 1 << max(0, x - 1).bit_length()


def _cut(batch: int, n: int, rows: int, cols: int, block: Block, device: torch.device) -> Cut:
    """Strips as high as leaves work for all processors."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    blocks, strips = -(-n // block.queries), -(-cols // block.columns)
    stories = min(rows, max(1, -(-ENOUGH * processors // (blocks * strips * batch))))
    height = -(-rows // stories)
    return Cut(block, blocks, strips, -(-rows // height), height)


def _launch(kernel: Any, grid: tuple[int, int, int], block: Block, arrays: list[Tensor], sizes: list[int], options: dict[str, Any]) -> None:
    """Calls a kernel on the device that its arrays are on."""
    with torch.cuda.device_of(arrays[0]):
        kernel[grid](*arrays, *sizes, BN=block.queries, BQ=block.columns, num_warps=block.warps, **options)


def forward(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> Sums:
    """`tiles.forward`, by Triton."""
    (batch, n, c), rows, cols = a.shape, row.shape[2], col.shape[2]
    chosen = kernels(c)
    cut = _cut(batch, n, rows, cols, chosen.forward, a.device)
    parts = (cut.stories, cut.strips, batch, n)
    top, total = a.new_empty(parts), a.new_empty(parts)
    sums, by_col = chosen.room(a, *parts, c), chosen.room(a, *parts, cut.block.columns)
    by_row = _room_queries_last(a, cut.strips, batch, n, rows)
    given = [chosen.laid(a), _queries_last(row), chosen.laid(col), x.contiguous(), inv.contiguous(), (inv if bias is None else bias).contiguous()]
    sizes = [batch, n, rows, cols, cut.strips, cut.height]
    grid = (cut.blocks, cut.stories * cut.strips, batch)
    options = {"BIASED": bias is not None, **_options(c)}
    _launch(chosen.module.forward, grid, cut.block, [*given, top, total, sums, by_row, by_col], sizes, options)
    greatest = top.amax((0, 1))
    lse = greatest + (total * torch.exp2(top - greatest)).sum((0, 1)).log2()
    share = torch.exp2(top - lse)
    return (
        lse / LOG2E,
        (sums * share[..., None]).sum((0, 1)),
        _rows_together(chosen, by_row, share, cut),
        _side_by_side((by_col * share[..., None]).sum(0), cols),
    )


def _rows_together(chosen: Kernels, by_row: Tensor, share: Tensor, cut: Cut) -> Tensor:
    """Sums over rows in all strips, (s, b, n, r), put together as their shares (h, s, b, n) say, (b, n, r)."""
    _, batch, n, rows = by_row.shape
    found = by_row.new_empty(batch, n, rows)
    with torch.cuda.device_of(by_row):
        grid, sizes = (-(-n // 32), -(-rows // 32), batch), (batch, n, rows, cut.strips, cut.height)
        chosen.module.rows_together[grid](by_row, share, found, *sizes, BN=32, BR=32)
    return found


def _side_by_side(strips: Tensor, cols: int) -> Tensor:
    """(s, b, n, _) as (b, n, q)."""
    return strips.permute(1, 2, 0, 3).flatten(2)[..., :cols]


def backward(
    given: Given, lse: Tensor, delta: Tensor, gradients: tuple[Tensor, Tensor, Tensor], wants_x: bool, wants_inv: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`tiles.backward`, by Triton."""
    a, row, col, x, inv, bias = given
    g_sums, g_rows, g_cols = gradients
    (batch, n, c), rows, cols = a.shape, row.shape[2], col.shape[2]
    chosen, options = kernels(c), {"BIASED": bias is not None, **_options(c)}
    of_tokens = [inv.contiguous(), (inv if bias is None else bias).contiguous()]
    ours = [chosen.laid(a), _queries_last(row)]
    above = [(lse * LOG2E).contiguous(), delta.contiguous(), chosen.laid(g_sums), _queries_last(g_rows)]

    cut = _cut(batch, n, rows, cols, chosen.queries, a.device)
    parts = (cut.stories, cut.strips, batch, n)
    d_a, d_col, d_row = chosen.room(a, *parts, c), chosen.room(a, *parts, cut.block.columns), _room_queries_last(a, cut.strips, batch, n, rows)
    arrays = [*ours, chosen.laid(col), x.contiguous(), *of_tokens, *above, chosen.laid(g_cols), d_a, d_row, d_col]
    grid = (cut.blocks, cut.stories * cut.strips, batch)
    _launch(chosen.module.backward_queries, grid, cut.block, arrays, [batch, n, rows, cols, cut.strips, cut.height], options)
    found = d_a.sum((0, 1)), d_row.sum(0), _side_by_side(d_col.sum(0), cols)
    if not (wants_x or wants_inv):
        return *found, torch.zeros_like(x), torch.zeros_like(inv)

    d_x, d_inv = a.new_empty(x.shape) if wants_x else torch.zeros_like(x), a.new_empty(inv.shape)
    arrays = [*ours, col.contiguous(), chosen.data(x), *of_tokens, *above, g_cols.contiguous(), d_x, d_inv]
    grid = (rows, -(-cols // chosen.tokens.columns), batch)
    _launch(chosen.module.backward_tokens, grid, chosen.tokens, arrays, [batch, n, rows, cols], options | {"WANTS_X": wants_x})
    return *found, d_x, d_inv
