"""Positions: Fourier features, learned tables and rotary embeddings. Pure functions first, modules after.

A token on a grid has one position per axis, and its features are those of its row beside those of its column. They are
kept as one small table an axis (`Positions.axes`) until somebody needs them side by side.

Letters: n places along an axis, m tokens (the product over the axes), p position channels, e head width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from perceiver.description import Described
from perceiver.initialization import Start, small_array


@dataclass(frozen=True)
class Positions:
    """Position features of a grid, one table an axis; tokens run through the grid with the last axis fastest.

    Attributes:
        axes: one table an axis, (n_i, p_i).
        groups: widths of the column groups of every table. Joined, the first group of all axes comes first, then the
            second of all axes, and so on: (1, K, K) for [position, sin, cos] is the channel order of the published
            Perceivers. None: one group, the tables simply stand side by side.
    """

    axes: tuple[Float[Tensor, "_ _"], ...]
    groups: tuple[int, ...] | None = None

    @property
    def num_tokens(self) -> int:
        return math.prod([len(table) for table in self.axes])

    @property
    def width(self) -> int:
        return sum(table.shape[1] for table in self.axes)

    def first(self, n: int) -> "Positions":
        """The first n places of the first axis."""
        return Positions((self.axes[0][:n], *self.axes[1:]), self.groups)

    def _group_widths(self) -> list[tuple[int, ...]]:
        """Widths of the column groups of each axis."""
        return [self.groups or (table.shape[1],) for table in self.axes]

    def dense(self) -> Float[Tensor, "m p"]:
        """All position channels of all tokens, side by side."""
        shape = [len(table) for table in self.axes]
        tables = (table.split(widths, -1) for table, widths in zip(self.axes, self._group_widths(), strict=True))
        columns = []
        for group in zip(*tables, strict=True):
            for axis, part in enumerate(group):
                view = [1] * len(shape) + [part.shape[1]]
                view[axis] = len(part)
                columns.append(part.view(view).expand(*shape, -1))
        return torch.cat(columns, -1).flatten(0, -2)

    def rows(self, places: Int[Tensor, " k"]) -> tuple[Int[Tensor, " k"], ...]:
        """Where places, counted with the last axis fastest, stand along each axis."""
        return torch.unravel_index(places, [len(table) for table in self.axes])

    def at(self, places: Int[Tensor, " k"]) -> Float[Tensor, "k p"]:
        """`dense()[places]`, without ever forming `dense()`."""
        return self.joined([table[row] for table, row in zip(self.axes, self.rows(places), strict=True)])

    def joined(self, parts: Sequence[Float[Tensor, "k _"]]) -> Float[Tensor, "k p"]:
        """Channels of each axis, side by side in the order of `dense()`."""
        groups = (part.split(widths, -1) for part, widths in zip(parts, self._group_widths(), strict=True))
        return torch.cat([part for group in zip(*groups, strict=True) for part in group], -1)

    def by_axis(self, weight: Shaped[Tensor, "d p"]) -> list[Shaped[Tensor, "d _"]]:
        """The columns of a weight that belong to each axis, as they stand in `dense()`, side by side in the order of its table."""
        groups = list(zip(*self._group_widths(), strict=True))
        columns = iter(weight.split([width for group in groups for width in group], -1))
        by_group = [[next(columns) for _ in group] for group in groups]
        return [torch.cat(blocks, -1) for blocks in zip(*by_group, strict=True)]

    def tables(self, weight: Float[Tensor, "d p"]) -> list[Float[Tensor, "n d"]]:
        """What each axis adds to `dense() @ weight.T`, at each of its places."""
        return [table.to(weight.dtype) @ block.T for table, block in zip(self.axes, self.by_axis(weight), strict=True)]

    def projected(self, weight: Float[Tensor, "d p"], places: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m d"]:
        """`dense() @ weight.T`, or `at(places) @ weight.T`: each axis is projected by itself, and the results added."""
        return self.added(self.tables(weight), places)

    def added(self, tables: Sequence[Float[Tensor, "_ d"]], places: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m d"]:
        """The sum of one table an axis, at each place of the grid, or at some of them."""
        if places is None:
            return reduce(lambda whole, axis: (whole[:, None] + axis[None]).flatten(0, 1), tables)
        return reduce(torch.add, (table[row] for table, row in zip(tables, self.rows(places), strict=True)))


def fourier_axis(places: int, num_bands: int, max_resolution: int) -> Float[Tensor, "n p"]:
    """Fourier features of one axis (Perceiver, section 3.2): [position, sin(pi f_k position), cos(pi f_k position)].

    Positions run from -1 to 1, both included; frequencies from 1 to half the maximal resolution (the Nyquist
    frequency), evenly spaced. Always float32: at the highest bands half precision has no correct digit.
    """
    position = torch.linspace(-1, 1, places, dtype=torch.float32) if places > 1 else torch.zeros(places, dtype=torch.float32)
    return fourier_features(position, num_bands, max_resolution)


def fourier_features(position: Float[Tensor, " n"], num_bands: int, max_resolution: int) -> Float[Tensor, "n p"]:
    """`fourier_axis`, at any positions."""
    # In this order, or the last digits are not those of transformers: at the highest bands an angle in float32 is off by 1e-5 already.
    angle = math.pi * (position[:, None] * torch.linspace(1.0, max_resolution / 2, num_bands, dtype=torch.float32))
    return torch.cat([position[:, None], angle.sin(), angle.cos()], -1)


def rotary_angles(positions: Float[Tensor, " n"], width: int, base: float = 10_000.0) -> Float[Tensor, "n e"]:
    """Angles for `rotate`: position times width/2 frequencies from 1 down to 1/base, each given twice (RoFormer, eq. 15)."""
    frequencies = base ** -torch.arange(0, width, 2, device=positions.device, dtype=torch.float32).div(width)
    return (positions.float()[:, None] * frequencies).repeat_interleave(2, -1)


def rotate(x: Float[Tensor, "... n e"], angles: Float[Tensor, "n r"]) -> Float[Tensor, "... n e"]:
    """Turns each pair of the first r channels by its angle (RoFormer, eq. 34); the other channels pass."""
    turned, rest = x.split([angles.shape[-1], x.shape[-1] - angles.shape[-1]], -1)
    even, odd = turned.float().unflatten(-1, (-1, 2)).unbind(-1)
    swapped = torch.stack([-odd, even], -1).flatten(-2)
    turned = turned.float() * angles.cos() + swapped * angles.sin()
    return torch.cat([turned.to(x.dtype), rest], -1)


class Rotary:
    """Relative positions as an argument of `Attention.forward`: turns queries and keys by their own angles.

    Args:
        queries: angles of the queries, from `rotary_angles`.
        keys: angles of the keys.
    """

    def __init__(self, queries: Float[Tensor, "n r"], keys: Float[Tensor, "m r"]) -> None:
        self.queries = queries
        self.keys = keys

    def __call__(self, q: Float[Tensor, "b h n e"], k: Float[Tensor, "b h m e"]) -> tuple[Tensor, Tensor]:
        return rotate(q, self.queries), rotate(k, self.keys)


class FourierPositions(Described):
    """Fixed Fourier features of a grid, in the channel order of the published Perceivers.

    Args:
        shape: places along each axis.
        num_bands: sine and cosine frequencies an axis.
        max_resolution: sets the highest frequency of each axis; `shape` when not given. It belongs to the model: a
            picture of another size keeps the frequencies and gets other positions.

    Raises:
        ValueError: when an axis has no place, or `max_resolution` has another number of axes.
    """

    def __init__(self, shape: Sequence[int], num_bands: int, *, max_resolution: Sequence[int] | None = None) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.num_bands = num_bands
        self.max_resolution = tuple(max_resolution or shape)
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"a grid needs at least one place along each axis, got shape {self.shape}")
        if len(self.max_resolution) != len(self.shape):
            raise ValueError(f"shape {self.shape} and max_resolution {self.max_resolution} must have the same number of axes")
        for axis, table in enumerate(self._tables(self.shape)):
            self.register_buffer(f"axis_{axis}", table, persistent=False)

    @property
    def width(self) -> int:
        """Position channels of one token."""
        return len(self.shape) * (1 + 2 * self.num_bands)

    def _tables(self, shape: tuple[int, ...]) -> list[Tensor]:
        return [fourier_axis(n, self.num_bands, r) for n, r in zip(shape, self.max_resolution, strict=True)]

    def forward(self, shape: Sequence[int]) -> Positions:
        """Positions of a grid of that shape, stretched over the whole range."""
        tables = [self.get_buffer(f"axis_{axis}") for axis in range(len(self.shape))]
        if tuple(shape) != self.shape:
            tables = [table.to(tables[0].device) for table in self._tables(tuple(shape))]
        return Positions(tuple(tables), groups=(1, self.num_bands, self.num_bands))


class LearnedPositions(Described):
    """A learned vector for each of a fixed number of places in a row.

    Args:
        num_positions: places in the table; more tokens than that are refused.
        dim: channels of one position.
        start: makes the table; see `perceiver.initialization`.
    """

    def __init__(self, num_positions: int, dim: int, *, start: Start = small_array) -> None:
        super().__init__()
        self.width = dim
        self.weight = start(num_positions, dim)

    def forward(self, shape: Sequence[int]) -> Positions:
        """Positions of the first prod(shape) places.

        Raises:
            ValueError: when the table is shorter.
        """
        wanted = math.prod(shape)
        if wanted > len(self.weight):
            raise ValueError(
                f"{wanted} positions asked of a table of {len(self.weight)}: shorten the input, or build the model with num_positions={wanted}"
            )
        return Positions((self.weight[:wanted],))


class LearnedGrid(Described):
    """A learned vector for each place of a grid of two axes, then a linear map. For a grid of another size the table is stretched.

    Args:
        size: rows and columns that were learned.
        dim: channels of a place in the table.
        width: channels that come out.
    """

    def __init__(self, size: Sequence[int], dim: int, width: int) -> None:
        super().__init__()
        self.size = tuple(size)
        self.width = width
        self.weight = small_array(math.prod(self.size), dim)
        self.project = nn.Linear(dim, width)

    def forward(self, shape: Sequence[int]) -> Positions:
        """Positions of a grid of that many rows and columns; stretched with cubic interpolation."""
        table: Tensor = self.weight
        if tuple(shape) != self.size:
            table = stretched(table, self.size, shape)
        return Positions((self.project(table),))


def stretched(table: Float[Tensor, "n d"], size: Sequence[int], shape: Sequence[int]) -> Float[Tensor, "m d"]:
    """A table of `size` rows and columns, cubically interpolated to `shape`."""
    learned = table.T.reshape(1, -1, *size)
    return nn.functional.interpolate(learned, size=tuple(shape), mode="bicubic", align_corners=False)[0].flatten(1).T
