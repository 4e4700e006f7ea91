"""What queries read of a grid: scores from its parts, and from sums of weights what is read, each multiplied in the order that takes less.

With keys K = T W', made of tokens T, scores are q (T W')' or (q W) T': the one makes keys of all places of the axes first, for all rows of a batch,
the other takes each query back to where tokens are. A table of many places that few queries read had better be left as it is. Values likewise.

Letters: b batch, h heads, n queries, c data channels, d width of a token, e head width of queries and keys, w of values, r places of an axis.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.grid_attention.operator import grid_sums
from perceiver.grid_attention.parts import GridParts
from perceiver.linear import is_plain


def read_grid(
    q: Float[Tensor, "b h n e"], grid: GridParts, to_k: nn.Module, to_v: nn.Module
) -> tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h n"]]:
    """What queries read of a grid, softmax(q k' / sqrt(e)) v, and the logarithm of the sum of the exponentials of their scores.

    A row of the batch with nothing to attend to reads zero, and its logarithm is -inf. Queries that were expanded, the same in each row, meet the
    tables once.
    """
    batch, heads, queries, _ = q.shape
    q = (q if q.stride(0) else q[:1]) * q.shape[-1] ** -0.5
    a, by_axis, offset = _asked(q, grid, to_k)
    before = by_axis[:-1] or [torch.zeros_like(by_axis[-1][..., :1])]  # a single axis is one row
    rows = reduce(lambda all_axes, axis: (all_axes[..., None] + axis[:, :, None]).flatten(2), before)
    a, rows, last, x = (t.expand(batch, -1, -1) for t in (a, rows, by_axis[-1], grid.x))
    lse, sums, by_row, by_col = grid_sums(a, rows, last, x, grid.inv.expand(batch, -1), grid.bias)
    out = _answered(sums, [*_marginals(by_row, grid.shape[:-1]), by_col], grid, to_v, heads)
    lse = lse.unflatten(1, (heads, queries)) + offset
    if grid.alive is not None:
        dead = ~grid.alive[:, None, None]
        out, lse = out.masked_fill(dead[..., None], 0), lse.masked_fill(dead, -torch.inf)
    return out, lse


def _taken_back(grid: GridParts, linear: nn.Module, batch: int, heads: int, queries: int) -> nn.Linear | None:
    """The map, if it takes fewer multiplications to take what belongs to queries back to the width of a token than to map all places of the axes."""
    if not is_plain(linear):
        return None
    tables = [table.shape for table in grid.positions.axes]
    places, channels = sum(n for n, _ in tables), sum(n * p for n, p in tables)
    width, mapped = linear.in_features, linear.out_features
    project = grid.tokens.project
    batch = 1 if torch.compiler.is_compiling() else batch  # a graph that PyTorch makes of a model must not depend on it
    forth = (channels * width if project is not None else 0) + places * width * mapped + batch * queries * places * mapped
    back = batch * queries * (width * mapped + heads * channels + (heads * width * project.in_features if project is not None else 0))
    return linear if back < forth else None


def _asked(
    q: Float[Tensor, "b h n e"], grid: GridParts, to_k: nn.Module
) -> tuple[Float[Tensor, "b hn c"], list[Float[Tensor, "b hn _"]], Float[Tensor, "b h n"]]:
    """What queries give each channel of data and each place of an axis, and what they give all tokens alike."""
    batch, heads, queries, width = q.shape
    if linear := _taken_back(grid, to_k, batch, heads, queries):
        weight, bias = linear.weight.to(q.dtype), linear.bias
        back = torch.einsum("bhne,hed->bhnd", q, weight.unflatten(0, (heads, width))).flatten(0, 2)
        offset = (back @ grid.shift).view(batch, heads, queries)
        if bias is not None:
            offset = offset + torch.einsum("bhne,he->bhn", q, bias.to(q.dtype).unflatten(0, (heads, width)))
        a, axes = grid.met(back if grid.gain is None else back * grid.gain)
        return a.unflatten(0, (batch, -1)), [axis.unflatten(0, (batch, -1)) for axis in axes], offset
    keys = grid.through(to_k)
    a, *axes = (torch.einsum("bhne,rhe->bhnr", q, rearrange(part, "r (h e) -> r h e", h=heads)).flatten(1, 2) for part in (keys.data, *keys.axes))
    return a, axes, torch.einsum("bhne,he->bhn", q, rearrange(keys.constant, "(h e) -> h e", h=heads))


def _answered(
    sums: Float[Tensor, "b hn c"], marginals: Sequence[Float[Tensor, "b hn _"]], grid: GridParts, to_v: nn.Module, heads: int
) -> Float[Tensor, "b h n w"]:
    """What is read, from the sums of weights times data, and over the places of each axis."""
    batch, queries = len(sums), sums.shape[1] // heads
    if linear := _taken_back(grid, to_v, batch, heads, queries):
        weight, bias = linear.weight.to(sums.dtype), linear.bias
        found = grid.sums(sums.flatten(0, 1), [marginal.flatten(0, 1) for marginal in marginals])
        found = (found if grid.gain is None else found * grid.gain) + grid.shift
        out = torch.einsum("bhnd,hwd->bhnw", found.view(batch, heads, queries, found.shape[-1]), weight.unflatten(0, (heads, -1)))
        return out if bias is None else out + rearrange(bias.to(sums.dtype), "(h w) -> h 1 w", h=heads)
    values = grid.through(to_v)
    parts = zip((sums, *marginals), (values.data, *values.axes), strict=True)
    read = [
        torch.einsum("bhnr,rhw->bhnw", weights.unflatten(1, (heads, queries)), rearrange(part, "r (h w) -> r h w", h=heads))
        for weights, part in parts
    ]
    return reduce(torch.add, read) + rearrange(values.constant, "(h w) -> h 1 w", h=heads)


def _marginals(by_row: Float[Tensor, "b n r"], shape: Sequence[int]) -> list[Float[Tensor, "b n _"]]:
    """The sums over each axis but the last, of sums over rows."""
    whole = by_row.unflatten(-1, list(shape)) if shape else by_row
    axes = range(2, 2 + len(shape))
    return [whole.sum([other for other in axes if other != axis]) if len(shape) > 1 else whole for axis in axes]
