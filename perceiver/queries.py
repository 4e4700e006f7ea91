"""Queries: what the output asks the latents with (Perceiver IO, section 3.2 and figure 3).

All kinds are called alike, with the tokens that were read and the number of rows, and tell their width as `dim`.

Letters: b batch, o output queries, d their width.
"""

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor

from perceiver.description import Described
from perceiver.initialization import Start, linear, small_array
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens


class LearnedQueries(Described):
    """A learned vector for each output: for classes, and for anything without a place.

    Args:
        num_queries: number of outputs.
        dim: width of a query.
        start: makes the array; see `perceiver.initialization`.
    """

    def __init__(self, num_queries: int, dim: int, *, start: Start = small_array) -> None:
        super().__init__()
        self.dim = dim
        self.weight = start(num_queries, dim)

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Float[Tensor, "b o d"]:
        """The same queries for each row."""
        return self.weight.expand(batch, -1, -1)


class PositionQueries(Described):
    """A query for each place of an output grid, made of its Fourier features: for pictures, video, sound.

    Args:
        positions: the grid of the output.
    """

    def __init__(self, positions: FourierPositions) -> None:
        super().__init__()
        self.positions = positions
        self.dim = positions.width

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Tokens:
        """The same queries for each row, the last axis of the grid fastest; in parts, since they are nothing but positions."""
        positions = self.positions(self.positions.shape)
        return Tokens(positions.axes[0].new_empty(batch, positions.num_tokens, 0), self.positions.shape, positions)


class TokenQueries(Described):
    """The tokens of one modality, as they are, as queries.

    Args:
        modality: whose tokens ask.
        dim: their width.
    """

    def __init__(self, modality: str, dim: int) -> None:
        super().__init__()
        self.modality = modality
        self.dim = dim

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Float[Tensor, "b o d"] | Tokens:
        """A query for each token; in parts, where all rows have them and their positions are fewer than they are.

        Raises:
            ValueError: when no row has the modality.
        """
        tokens = tokens_of(segments, self.modality)
        if tokens.asks_in_parts:
            return tokens
        tokens = tokens.dense()
        return tokens.to_batch(tokens.features, batch)


class InputQueries(Described):
    """A query for each input token of one modality, made of that token: for outputs that lie where an input lay.

    Args:
        modality: whose tokens ask.
        token_dim: their width as they reach the trunk.
        dim: width of a query.
    """

    def __init__(self, modality: str, token_dim: int, dim: int) -> None:
        super().__init__()
        self.modality = modality
        self.dim = dim
        self.project = linear(token_dim, dim)

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Float[Tensor, "b o d"]:
        """A query for each token; zeros in rows without the modality and behind its mask.

        Raises:
            ValueError: when no row has the modality.
        """
        tokens = tokens_of(segments, self.modality).dense()
        queries = tokens.to_batch(self.project(tokens.features), batch)
        return queries.masked_fill(~tokens.attendable(batch)[..., None], 0)


def of_rows(queries: Float[Tensor, "b o d"] | Tokens, rows: Int[Tensor, " k"]) -> Float[Tensor, "k o d"] | Tokens:
    """The queries of some rows of a batch."""
    if isinstance(queries, Tensor):
        return queries[rows]
    return replace(queries, features=queries.features[rows], mask=None if queries.mask is None else queries.mask[rows])


def tokens_of(segments: Mapping[str, Tokens], modality: str) -> Tokens:
    """The tokens that queries are made of."""
    if modality not in segments:
        raise ValueError(f"queries are made of {modality!r}, which no row of this batch has; it has {', '.join(segments) or 'nothing'}")
    return segments[modality]
