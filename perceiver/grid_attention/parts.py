"""Tokens of a grid and their norm, taken apart: what the data, each axis and a constant add to them, and to any linear map of them.

Letters: b batch, m tokens, c data channels, d width of a token, e width of what it is mapped to, k vectors of any kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perceiver.linear import is_plain
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
        ValueError: when there are not as many tokens as positions, or the norm has another width.
    """

    def __init__(self, tokens: Tokens, dtype: torch.dtype) -> None:
        assert tokens.positions is not None
        self.tokens, self.positions, self.places = tokens, tokens.positions, tokens.places
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
            self.inv = self.x.new_ones(features.shape[:2])
            self.parts, self.gain, self.shift = _with_constant(raw), None, torch.zeros_like(raw.constant)
        else:
            norm = tokens.norm
            if (len(raw.constant),) != norm.normalized_shape:
                raise ValueError(f"tokens of {len(raw.constant)} channels do not fit a norm of {norm.normalized_shape[0]}: make them as wide")
            self.parts = _with_constant(_centred(raw))
            self.inv = self._inverse_deviation(norm.eps)
            self.gain = None if norm.weight is None else norm.weight.to(dtype)
            self.shift = torch.zeros_like(raw.constant) if norm.bias is None else norm.bias.to(dtype)

    def through(self, linear: nn.Module) -> Parts:
        """The parts of `linear(tokens)`; all but the constant are to be multiplied by inv.

        Args:
            linear: `nn.Linear`, or a module that has taken the place of one and is as linear, such as one with the small matrices of LoRA.
        """
        if not is_plain(linear):
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

    def met(self, u: Float[Tensor, "k d"]) -> tuple[Float[Tensor, "k c"], list[Float[Tensor, "k _"]]]:
        """Products of vectors as wide as a token with the parts of normed tokens, but for gain and shift: of the data, and of each axis."""
        u = u if self.tokens.norm is None else u - u.mean(-1, keepdim=True)
        project, constant, dtype = self.tokens.project, self.tokens.constant, u.dtype
        wide = u if project is None else u @ project.weight.to(dtype)
        data, positions, beside = self.tokens.columns(wide)
        first, *others = (block @ table.to(dtype).T for block, table in zip(self.positions.by_axis(positions), self.positions.axes, strict=True))
        for vector, value in ((beside, constant), (u, None if project is None else project.bias)):
            if value is not None:
                first = first + (vector @ value.to(dtype))[:, None]
        return data, [first, *others]

    def sums(self, data: Float[Tensor, "k c"], axes: Sequence[Float[Tensor, "k _"]]) -> Float[Tensor, "k d"]:
        """The sum of all normed tokens, but for gain and shift, by weights whose sums are given: times the data, and over the places of each axis."""
        project, constant, dtype = self.tokens.project, self.tokens.constant, data.dtype
        total = axes[0].sum(-1, keepdim=True)
        found = [data, self.positions.joined([weights @ table.to(dtype) for weights, table in zip(axes, self.positions.axes, strict=True)])]
        if constant is not None:
            found.append(total * constant.to(dtype))
        wide = torch.cat(found, -1)
        if project is not None:
            wide = wide @ project.weight.to(dtype).T
            wide = wide if project.bias is None else wide + total * project.bias.to(dtype)
        return wide if self.tokens.norm is None else wide - wide.mean(-1, keepdim=True)

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
    if tokens.project is not None:
        data, positions, constant = tokens.columns(tokens.project.weight.to(dtype))
        fixed = torch.zeros_like(data[:, 0]) if tokens.project.bias is None else tokens.project.bias.to(dtype)
        if tokens.constant is not None:
            fixed = fixed + constant @ tokens.constant.to(dtype)
        return Parts(data.T, tokens.positions.tables(positions), fixed)
    width = tokens.features.shape[-1] + tokens.positions.width + (0 if tokens.constant is None else len(tokens.constant))
    data, positions, constant = tokens.columns(torch.arange(width, device=tokens.features.device)[None])  # where each channel stands
    axes = [_placed(table.to(dtype), at[0], width) for table, at in zip(tokens.positions.axes, tokens.positions.by_axis(positions), strict=True)]
    eye = torch.eye(data.shape[1], dtype=dtype, device=tokens.features.device)
    fixed = axes[0].new_zeros(width) if tokens.constant is None else _placed(tokens.constant.to(dtype)[None], constant[0], width)[0]
    return Parts(_placed(eye, data[0], width), axes, fixed)


def _placed(table: Float[Tensor, "n k"], columns: Int[Tensor, " k"], width: int) -> Float[Tensor, "n d"]:
    """A table whose columns stand where they belong among others, which are zero."""
    return table.new_zeros(len(table), width).index_copy(1, columns, table)


def _centred(parts: Parts) -> Parts:
    """Less their mean over the channels, so that the norm has no mean left to take away."""
    data, *axes = (table - table.mean(-1, keepdim=True) for table in (parts.data, *parts.axes))
    return Parts(data, axes, parts.constant - parts.constant.mean())


def _with_constant(parts: Parts) -> Parts:
    """With the constant in the table of the first axis."""
    first, *others = parts.axes
    return Parts(parts.data, [first + parts.constant, *others], torch.zeros_like(parts.constant))
