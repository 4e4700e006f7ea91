"""The work of factored attention: reading a grid, or asking with one, without ever forming its tokens (docs/factored_attention.md).

It mirrors `perceiver.grid_attention.parts` and `.reading` product by product, in their order.

Letters: b rows, h heads, n queries, c data channels, d width of a token, m tokens.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from perceiver.cost import forms
from perceiver.cost.work import Work, product
from perceiver.grid_attention import GridParts
from perceiver.grid_attention.reading import _taken_back
from perceiver.linear import is_plain
from perceiver.tokens import Tokens


def learns(*tensors: Tensor | None) -> bool:
    """Whether any of them has a gradient."""
    return any(t is not None and t.requires_grad for t in tensors)


def map_work(linear: Any, rows: int, *, data: bool) -> Work:
    """A map of some rows: that of `nn.Linear`, or of a module that stands in its place and is made of such maps.

    Args:
        linear: the map.
        rows: how many.
        data: whether they have a gradient.
    """
    inner = [one for one in linear.modules() if isinstance(one, nn.Linear)]
    return sum(
        (product(rows, one.in_features, one.out_features, left=data or one is not inner[0], right=learns(one.weight)) for one in inner), Work()
    )


@dataclass(frozen=True)
class Grid:
    """Tokens on a grid, as sizes and what of them learns.

    Attributes:
        tokens: whose sizes these are.
    """

    tokens: Tokens

    @property
    def channels(self) -> int:
        """Channels of data."""
        return self.tokens.features.shape[-1]

    @property
    def rows(self) -> int:
        """Rows that differ: one where there are no data."""
        return self.tokens.features.shape[0] if self.channels else 1

    @property
    def tables(self) -> list[tuple[int, int]]:
        """Places and channels of each axis."""
        assert self.tokens.positions is not None
        return [(table.shape[0], table.shape[1]) for table in self.tokens.positions.axes]

    @property
    def width(self) -> int:
        """Channels of a token as it is read."""
        return self.joined if self.tokens.project is None else self.tokens.project.out_features

    @property
    def joined(self) -> int:
        """Channels of data, position and constant side by side."""
        constant = self.tokens.constant
        return self.channels + sum(p for _, p in self.tables) + (0 if constant is None else len(constant))

    @property
    def data_learns(self) -> bool:
        """Whether what a channel of data adds to a token has a gradient."""
        return self.tokens.project is not None and learns(self.tokens.project.weight)

    @property
    def axes_learn(self) -> list[bool]:
        """Whether what each axis adds has one; the first axis has what is the same for all tokens, too."""
        assert self.tokens.positions is not None
        project = self.tokens.project
        found = [self.data_learns or learns(table) for table in self.tokens.positions.axes]
        return [found[0] or learns(self.tokens.constant, None if project is None else project.bias), *found[1:]]

    def parts(self) -> Work:
        """Taking tokens and norm apart: tables of the map, and the deviation of each token."""
        tokens, c, d = self.tokens, self.channels, self.width
        assert tokens.positions is not None
        work = Work()
        if tokens.project is not None:
            for table in tokens.positions.axes:
                work += product(len(table), table.shape[1], d, left=learns(table), right=self.data_learns)
            if tokens.constant is not None:
                work += product(d, len(tokens.constant), 1, left=self.data_learns, right=learns(tokens.constant))
        if tokens.norm is None:
            return work
        for (i, (one, _)), (j, (other, _)) in combinations(enumerate(self.tables), 2):
            work += product(one, d, other, left=self.axes_learn[i], right=self.axes_learn[j])
        if c:
            for (places, _), axis_learns in zip(self.tables, self.axes_learn, strict=True):
                work += product(places, d, c, left=axis_learns, right=self.data_learns)
            work += product(c, d, c, left=self.data_learns, right=self.data_learns)
            work += product(self.rows * c, c, tokens.features.shape[1], left=self.data_learns, right=learns(tokens.features))
        return work

    def through(self, linear: Any) -> Work:
        """The parts of a map of the tokens; nothing for a module in the place of one, which is called and says so itself."""
        norm = self.tokens.norm
        gain, shift = (None, None) if norm is None else (norm.weight, norm.bias)
        if not is_plain(linear):
            return Work()
        out, right = linear.out_features, learns(linear.weight, gain)
        work = product(out, self.width, 1, left=learns(linear.weight), right=learns(shift))
        for places, part_learns in ((self.channels, self.data_learns), *((n, at) for (n, _), at in zip(self.tables, self.axes_learn, strict=True))):
            work += product(places, self.width, out, left=part_learns, right=right)
        return work

    def projected(self, linear: Any) -> Work:
        """Queries made of the tokens."""
        work = self.parts() + self.through(linear)
        if self.channels:
            work += product(self.rows * self.tokens.features.shape[1], self.channels, linear.out_features, left=learns(self.tokens.features))
        return work


@dataclass(frozen=True)
class Asked:
    """Queries that read a grid, as sizes.

    Attributes:
        rows: that differ: one, where all rows of a batch ask the same.
        queries: of a row.
        heads: that each has.
        learn: whether they have a gradient.
    """

    rows: int
    queries: int
    heads: int
    learn: bool

    @property
    def vectors(self) -> int:
        """All of them, by head."""
        return self.rows * self.queries * self.heads


def read_work(tokens: Tokens, asked: Asked, to_k: Any, to_v: Any) -> Work:
    """`read_grid`: scores, sums, and what is read.

    Args:
        tokens: of the grid, normed.
        asked: the queries.
        to_k: makes keys.
        to_v: makes values.
    """
    grid, wants_x = Grid(tokens), learns(tokens.features)
    with torch.no_grad():
        parts = GridParts(tokens, tokens.features.dtype)
    deviation = tokens.norm is not None and (wants_x or grid.data_learns or any(grid.axes_learn))
    scored = asked.learn or wants_x or deviation or grid.data_learns or any(grid.axes_learn) or learns(*to_k.parameters())
    pairs = len(tokens.features) * asked.heads * asked.queries * tokens.features.shape[1]
    backward = forms.grid_sums_backward(pairs, grid.channels, data=wants_x, deviation=deviation) if scored else 0
    read = Asked(len(tokens.features), asked.queries, asked.heads, scored)
    work = grid.parts() + _keys(grid, parts, asked, to_k)
    return work + Work(forms.grid_sums(pairs, grid.channels), backward) + _values(grid, parts, read, to_v)


def _keys(grid: Grid, parts: GridParts, asked: Asked, to_k: Any) -> Work:
    """What queries give each channel of data and each place of an axis."""
    rows, width = asked.rows * asked.queries, to_k.out_features
    linear = _taken_back(parts, to_k, asked.rows, asked.heads, asked.queries)
    if linear is None:
        places = grid.channels + sum(n for n, _ in grid.tables) + 1  # and what is the same for all
        return grid.through(to_k) + product(rows, width, places, left=asked.learn)
    tokens, d = grid.tokens, grid.width
    norm, project = tokens.norm, tokens.project
    back = asked.learn or learns(linear.weight)
    work = product(rows, width, d, left=asked.learn, right=learns(linear.weight))
    work += product(asked.vectors, d, 1, left=back, right=norm is not None and learns(norm.bias))
    if linear.bias is not None:
        work += product(rows, width, 1, left=asked.learn, right=learns(linear.bias))
    if project is not None:
        work += product(asked.vectors, d, project.in_features, left=back, right=learns(project.weight))
        if project.bias is not None:
            work += product(asked.vectors, d, 1, left=back, right=learns(project.bias))
    if tokens.constant is not None:
        work += product(asked.vectors, len(tokens.constant), 1, left=back, right=learns(tokens.constant))
    assert tokens.positions is not None
    for table in tokens.positions.axes:
        work += product(asked.vectors, table.shape[1], len(table), left=back, right=learns(table))
    return work


def _values(grid: Grid, parts: GridParts, read: Asked, to_v: Any) -> Work:
    """What is read, from the sums over data and over the places of each axis."""
    rows, width = read.rows * read.queries, to_v.out_features
    linear = _taken_back(parts, to_v, read.rows, read.heads, read.queries)
    if linear is None:
        return grid.through(to_v) + product(rows, grid.channels + sum(n for n, _ in grid.tables), width, left=read.learn)
    tokens = grid.tokens
    assert tokens.positions is not None
    work = product(rows, width, grid.width, left=read.learn, right=learns(linear.weight))
    for table in tokens.positions.axes:
        work += product(read.vectors, len(table), table.shape[1], left=read.learn, right=learns(table))
    if tokens.project is not None:
        work += product(read.vectors, tokens.project.in_features, grid.width, left=read.learn, right=learns(tokens.project.weight))
    return work
