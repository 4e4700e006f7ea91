"""Attention over a grid in plain PyTorch operations, tile by tile: the path that works everywhere, in every precision and on every device.

Letters: b batch, n queries, c data channels, r rows of the grid, q columns, m = r q tokens.
"""

import torch
from torch import Tensor

# Scores that are held at a time: on a CPU what its second cache takes, elsewhere enough to keep the device busy.
TILE = {"cpu": 2**20}
BIG_TILE = 2**26

Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]
Sums = tuple[Tensor, Tensor, Tensor, Tensor]


def tiles(n: int, rows: int, cols: int, device: torch.device) -> list[slice]:
    """Stretches of rows, each with about as many scores as a tile has."""
    height = max(1, TILE.get(device.type, BIG_TILE) // max(1, n * cols))
    return [slice(first, min(first + height, rows)) for first in range(0, rows, height)]


def forward(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> Sums:
    """lse (b, n), and the sums over tokens of weight times inv: times x (b, n, c), over each row (b, n, r) and each column (b, n, q)."""
    one = [_forward(*(None if t is None else t[i] for t in (a, row, col, x, inv, bias))) for i in range(len(a))]  # type: ignore[arg-type]
    lse, sums, rows, cols = (torch.stack(parts) for parts in zip(*one, strict=True))
    return lse, sums, rows, cols


def _scores(a: Tensor, row: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """a.x + row + col of one tile, (n, r, q)."""
    s = (a @ x).unflatten(1, (row.shape[1], col.shape[1]))
    s += row[:, :, None]
    s += col[:, None, :]
    return s


def _forward(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> Sums:
    n, rows, cols = len(a), row.shape[1], col.shape[1]
    top, total = a.new_full((n, 1), -torch.inf), a.new_zeros(n, 1)
    sums, by_row, by_col = torch.zeros_like(a), torch.zeros_like(row), torch.zeros_like(col)
    for tile in tiles(n, rows, cols, a.device):
        at = slice(tile.start * cols, tile.stop * cols)
        s = _scores(a, row[:, tile], col, x[:, at])
        s *= inv[at].view(-1, cols)
        if bias is not None:
            s += bias[at].view(-1, cols)
        higher = torch.maximum(top, s.flatten(1).amax(1, keepdim=True))
        shrink = torch.exp(top - higher)
        s -= higher[:, :, None]
        s.exp_()
        total = total * shrink + s.flatten(1).sum(1, keepdim=True)
        s *= inv[at].view(-1, cols)
        sums = sums * shrink + s.flatten(1) @ x[:, at].T
        by_col = by_col * shrink + s.sum(1)
        by_row *= shrink
        by_row[:, tile] = s.sum(2)
        top = higher
    return (top + total.log())[:, 0], sums / total, by_row / total, by_col / total


def backward(
    given: Given, lse: Tensor, delta: Tensor, gradients: tuple[Tensor, Tensor, Tensor], wants_x: bool, wants_inv: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a, row, col, x and inv; of the last two, zeros where they are not wanted.

    Args:
        given: what `forward` was given, in its order.
        delta: the sum of each gradient times what it is a gradient of, less the gradient of lse, (b, n).
        gradients: of the three sums.
    """
    a, row, col, x, inv, bias = given
    g_sums, g_rows, g_cols = gradients
    d_a, d_row, d_col = torch.zeros_like(a), torch.empty_like(row), torch.zeros_like(col)
    d_x, d_inv = torch.zeros_like(x), torch.zeros_like(inv)
    n, rows, cols = a.shape[1], row.shape[2], col.shape[2]
    for i in range(len(a)):
        for tile in tiles(n, rows, cols, a.device):
            at = slice(tile.start * cols, tile.stop * cols)
            deviation, data = inv[i, at].view(-1, cols), x[i, :, at]
            u = _scores(a[i], row[i, :, tile], col[i], data)
            p = u * deviation
            if bias is not None:
                p += bias[i, at].view(-1, cols)
            p -= lse[i, :, None, None]
            p.exp_()
            g = _scores(g_sums[i], g_rows[i, :, tile], g_cols[i], data)
            d = g * deviation
            d -= delta[i, :, None, None]
            d *= p
            if wants_inv:
                d_inv[i, at] = ((d * u).sum(0) + (p * g).sum(0)).flatten()
            d *= deviation
            d_a[i] += d.flatten(1) @ data.T
            d_col[i] += d.sum(1)
            d_row[i, :, tile] = d.sum(2)
            if wants_x:
                d_x[i, :, at] = a[i].T @ d.flatten(1) + g_sums[i].T @ (p * deviation).flatten(1)
    return d_a, d_row, d_col, d_x, d_inv
