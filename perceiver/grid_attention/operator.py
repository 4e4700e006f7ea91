"""The sums that attention over a grid is made of, as one operator of PyTorch: differentiable once, and opaque to `torch.compile` and `torch.export`.

Letters: b batch, n queries, c data channels, r rows of the grid, q columns, m = r q tokens.
"""

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, library

from perceiver.grid_attention import gpu, native, tiles
from perceiver.grid_attention.tiles import Sums


def path(x: Tensor) -> ModuleType:
    """What computes it: the kernel for its device, which there is in float32; tiles of PyTorch operations for all else."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and native.kernel() is not None:
        return native
    return gpu if x.dtype == torch.float32 and x.device.type == "cuda" and gpu.available() else tiles


@library.custom_op("perceiver_lightning::grid_sums", mutates_args=())
def _grid_sums(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lse, sums, rows, cols = (t.contiguous() for t in path(x).forward(a, row, col, x, inv, bias))
    return lse, sums, rows, cols


@_grid_sums.register_fake
def _(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> Sums:
    return a.new_empty(a.shape[:2]), a.new_empty(a.shape), row.new_empty(row.shape), col.new_empty(col.shape)


@library.custom_op("perceiver_lightning::grid_sums_backward", mutates_args=())
def _grid_sums_backward(
    a: Tensor,
    row: Tensor,
    col: Tensor,
    x: Tensor,
    inv: Tensor,
    bias: Tensor | None,
    lse: Tensor,
    delta: Tensor,
    g_sums: Tensor,
    g_rows: Tensor,
    g_cols: Tensor,
    wants_x: bool,
    wants_inv: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    found = path(x).backward((a, row, col, x, inv, bias), lse, delta, (g_sums, g_rows, g_cols), wants_x, wants_inv)
    d_a, d_row, d_col, d_x, d_inv = (t.contiguous() for t in found)
    return d_a, d_row, d_col, d_x, d_inv


@_grid_sums_backward.register_fake
def _(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_a, d_row, d_col, d_x, d_inv = (t.new_empty(t.shape) for t in (a, row, col, x, inv))
    return d_a, d_row, d_col, d_x, d_inv


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Sums) -> None:
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx: Any, g_lse: Tensor, g_sums: Tensor, g_rows: Tensor, g_cols: Tensor) -> tuple[Tensor | None, ...]:
    a, row, col, x, inv, bias, lse, sums, rows, cols = ctx.saved_tensors
    # A score moves lse by its weight p, and each sum by p times what it adds to it less the sum itself.
    delta = (g_sums * sums).sum(-1) + (g_rows * rows).sum(-1) + (g_cols * cols).sum(-1) - g_lse
    wants_x, wants_inv = ctx.needs_input_grad[3:5]
    d_a, d_row, d_col, d_x, d_inv = _grid_sums_backward(a, row, col, x, inv, bias, lse, delta, g_sums, g_rows, g_cols, wants_x, wants_inv)
    return d_a, d_row, d_col, d_x if wants_x else None, d_inv if wants_inv else None, None


_grid_sums.register_autograd(_differentiate, setup_context=_keep)


def grid_sums(
    a: Float[Tensor, "b n c"],
    row: Float[Tensor, "b n r"],
    col: Float[Tensor, "b n q"],
    x: Float[Tensor, "b c m"],
    inv: Float[Tensor, "b m"],
    bias: Float[Tensor, "b m"] | None = None,
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"], Float[Tensor, "b n r"], Float[Tensor, "b n q"]]:
    """With scores inv (a.x + row + col) + bias and their softmax p over all tokens: the logarithm of the sum of their exponentials, and the sums of
    p inv times x, over each row, and over each column.

    Args:
        a: what each query gives a channel of data.
        row: what it gives a row of the grid.
        col: what it gives a column.
        x: data of each token, the columns fastest.
        inv: factor of each token.
        bias: added to the scores of each token, without a gradient; -1e30 hides it.

    Raises:
        ValueError: when the tokens are not rows times columns, or arrays differ in batch, queries or channels.
    """
    batch, n, c = a.shape
    shapes = (batch, n, row.shape[-1]), (batch, n, col.shape[-1]), (batch, c, row.shape[-1] * col.shape[-1])
    if (row.shape, col.shape, x.shape) != shapes or inv.shape != (batch, x.shape[-1]) or (bias is not None and bias.shape != inv.shape):
        raise ValueError(
            f"a grid of {row.shape[-1]} x {col.shape[-1]} with a {tuple(a.shape)}, row {tuple(row.shape)}, col {tuple(col.shape)} does not fit "
            f"x {tuple(x.shape)}, inv {tuple(inv.shape)} and bias {None if bias is None else tuple(bias.shape)}"
        )
    if not (n and x.shape[-1]):
        return a.new_full((batch, n), -torch.inf), torch.zeros_like(a), torch.zeros_like(row), torch.zeros_like(col)
    return _grid_sums(a, row, col, x, inv, bias)
