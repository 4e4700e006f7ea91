"""Tokens of a grid, their norm, keys and values, taken apart: what the data, each axis and a constant add to them.

Letters: b batch, h heads, n queries, m tokens, c data channels, d width of a token, e head width of queries and keys, w of values, r places of an
axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.grid_attention.operator import grid_sums
from perceiver.tokens import Tokens

NEVER = -1e30  # added to the score of a token that may not be attended: finite, and far below all others


@dataclass(frozen=True)
class Parts:
    """What is added up to make an array of the grid, each (_, d).

    Attributes:
        data: by channel of the data.
        axes: by place of each axis.
        constant: the same everywhere.
    """

    data: Float[Tensor, "c d"]
    axes: Sequence[Float[Tensor, "_ d"]]
    constant: Float[Tensor, " d"]


class GridParts:
    """Normed tokens on a grid: inv (data + row + column + ...) + constant, with inv one over the standard deviation of each token.

    Args:
        tokens: with positions of at least one axis. Those without a norm have inv = 1.
        dtype: of all that is computed.

    Raises:
        ValueError: when there are not as many tokens as positions.
    """

    def __init__(self, tokens: Tokens, dtype: torch.dtype) -> None:
        assert tokens.positions is not None
        self.positions, self.places = tokens.positions, tokens.places
        self.shape = [len(table) for table in tokens.positions.axes]
        if tokens.places is None and tokens.features.shape[1] != math.prod(self.shape):
            raise ValueError(
                f"{tokens.features.shape[1]} tokens do not fill a grid of {' x '.join(map(str, self.shape))} positions: make them as many"
            )
        features = tokens.features if tokens.mask is None else tokens.features.masked_fill(~tokens.mask[..., None], 0)
        if not features.shape[-1]:
            features = features[:1]  # without data, tokens are the same in each row
        self.x = features.to(dtype).transpose(1, 2)
        self.alive = None if tokens.mask is None else tokens.mask.any(1)
        self.bias = None if tokens.mask is None else torch.where(tokens.mask, 0.0, NEVER).to(dtype)
        raw = _raw(tokens, dtype)
        if tokens.norm is None:
            self.inv = torch.ones_like(self.x[:, 0])
            self.parts, self.gain, self.shift = raw, None, raw.constant
        else:
            norm = tokens.norm
            self.parts = _centred(raw)
            self.inv = self._inverse_deviation(norm.eps)
            self.gain = None if norm.weight is None else norm.weight.to(dtype)
            self.shift = torch.zeros_like(raw.constant) if norm.bias is None else norm.bias.to(dtype)

    def through(self, linear: nn.Module) -> Parts:
        """The parts of `linear(tokens)`; all but the constant are to be multiplied by inv.

        Args:
            linear: `nn.Linear`, or a module that has taken the place of one and is as linear, such as one with the small matrices of LoRA.
        """
        if type(linear) is not nn.Linear:
            return self._through_any(linear)
        weight = linear.weight.to(self.x.dtype)
        constant = weight @ self.shift
        if linear.bias is not None:
            constant = constant + linear.bias.to(self.x.dtype)
        gained = weight if self.gain is None else weight * self.gain
        return Parts(self.parts.data @ gained.T, [table @ gained.T for table in self.parts.axes], constant)

    def _through_any(self, linear: nn.Module) -> Parts:
        """`through`, where there is no single weight: what a part adds is what the module gives for it, less what it gives for nothing."""
        kind = next(linear.parameters()).dtype

        def at(rows: Tensor) -> Tensor:
            return linear(rows.to(kind)).to(self.x.dtype)

        gain = torch.ones_like(self.shift) if self.gain is None else self.gain
        nothing = at(torch.zeros_like(self.shift))
        return Parts(at(self.parts.data * gain) - nothing, [at(table * gain) - nothing for table in self.parts.axes], at(self.shift))

    def projected(self, linear: nn.Module) -> Float[Tensor, "b m e"]:
        """`linear(tokens)`, without forming the tokens. Where they have no data they are the same in each row of the batch, and it is given once."""
        parts = self.through(linear)
        found = self.positions.added(parts.axes, self.places)[None]
        if self.x.shape[1]:
            found = found + self.x.transpose(1, 2) @ parts.data
        return torch.addcmul(parts.constant, self.inv[..., None], found)

    def _inverse_deviation(self, eps: float) -> Float[Tensor, "b m"]:
        """One over the standard deviation of each token: its square is a quadratic form of the data, with tables for what the axes add."""
        data, axes = self.parts.data, self.parts.axes
        square = self._at([table.square().sum(-1) for table in axes])
        for j, other in enumerate(axes):
            for i, one in enumerate(axes[:j]):
                square = square + 2 * self._product(one @ other.T, i, j)
        if len(data):
            linear = self.positions.added([table @ data.T for table in axes], self.places).T
            form = torch.einsum("cd,bdm->bcm", data @ data.T, self.x)
            square = ((form + 2 * linear) * self.x).sum(1) + square
        else:
            square = square[None]
        return (square.clamp_min(0) / data.shape[1] + eps).rsqrt()

    def _at(self, vectors: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, " m"]:
        """The sum of one number a place of each axis, at each token."""
        return self.positions.added([vector[:, None] for vector in vectors], self.places)[:, 0]

    def _product(self, table: Float[Tensor, "n k"], i: int, j: int) -> Float[Tensor, " m"]:
        """A number for each place of axis i and place of axis j, at each token."""
        if self.places is not None:
            rows = self.positions.rows(self.places)
            return table[rows[i], rows[j]]
        view = [size if axis in (i, j) else 1 for axis, size in enumerate(self.shape)]
        return table.view(view).expand(self.shape).flatten()


def _raw(tokens: Tokens, dtype: torch.dtype) -> Parts:
    """The parts of tokens before their norm."""
    assert tokens.positions is not None
    width = tokens.features.shape[-1] + tokens.positions.width + (0 if tokens.constant is None else len(tokens.constant))
    if tokens.project is None:
        weight, bias = torch.eye(width, dtype=dtype, device=tokens.features.device), None
    else:
        weight, bias = tokens.project.weight.to(dtype), tokens.project.bias
    data, positions, constant = tokens.columns(weight)
    fixed = torch.zeros_like(weight[:, 0]) if bias is None else bias.to(dtype)
    if tokens.constant is not None:
        fixed = fixed + constant @ tokens.constant.to(dtype)
    return Parts(data.T, tokens.positions.tables(positions), fixed)


def _centred(parts: Parts) -> Parts:
    """Less their mean over the channels, so that the norm has no mean left to take away; the constant goes to the first axis."""
    first, *others = ((table - table.mean(-1, keepdim=True)) for table in parts.axes)
    data, constant = parts.data - parts.data.mean(-1, keepdim=True), parts.constant - parts.constant.mean()
    return Parts(data, [first + constant, *others], torch.zeros_like(constant))


def read_grid(
    q: Float[Tensor, "b h n e"], grid: GridParts, to_k: nn.Module, to_v: nn.Module
) -> tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h n"]]:
    """What queries read of a grid, softmax(q k' / sqrt(e)) v, and the logarithm of the sum of the exponentials of their scores.

    A row of the batch with nothing to attend to reads zero, and its logarithm is -inf.
    """
    heads, queries = q.shape[1:3]
    q = q * q.shape[-1] ** -0.5
    keys, values = grid.through(to_k), grid.through(to_v)
    a, *by_axis = (torch.einsum("bhne,rhe->bhnr", q, rearrange(part, "r (h e) -> r h e", h=heads)).flatten(1, 2) for part in (keys.data, *keys.axes))
    rows = reduce(lambda all_axes, axis: (all_axes[..., None] + axis[:, :, None]).flatten(2), by_axis[:-1]) if by_axis[:-1] else None
    if rows is None:
        rows = torch.zeros_like(by_axis[0][..., :1])
    lse, sums, by_row, by_col = grid_sums(a, rows, by_axis[-1], grid.x, grid.inv, grid.bias)
    marginals = [*_marginals(by_row, grid.shape[:-1]), by_col]
    out = sum(
        torch.einsum("bhnr,rhw->bhnw", marginal.unflatten(1, (heads, queries)), rearrange(part, "r (h w) -> r h w", h=heads))
        for marginal, part in zip((sums, *marginals), (values.data, *values.axes), strict=True)
    )
    out = out + rearrange(values.constant, "(h w) -> h 1 w", h=heads)
    lse = lse.unflatten(1, (heads, queries)) + torch.einsum("bhne,he->bhn", q, rearrange(keys.constant, "(h e) -> h e", h=heads))
    if grid.alive is not None:
        dead = ~grid.alive[:, None, None]
        out, lse = out.masked_fill(dead[..., None], 0), lse.masked_fill(dead, -torch.inf)
    return out, lse


def _marginals(by_row: Float[Tensor, "b n r"], shape: Sequence[int]) -> list[Float[Tensor, "b n _"]]:
    """The sums over each axis but the last, of sums over rows."""
    whole = by_row.unflatten(-1, list(shape)) if shape else by_row
    axes = range(2, 2 + len(shape))
    return [whole.sum([other for other in axes if other != axis]) if len(shape) > 1 else whole for axis in axes]
