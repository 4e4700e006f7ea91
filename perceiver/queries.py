"""Queries: what the output asks the latents with (Perceiver IO, section 3.2 and figure 3).

All kinds are called alike, with the tokens that were read and the number of rows, and tell their width as `dim`.

Letters: b batch, o output queries, d their width.
"""

from collections.abc import Mapping

from jaxtyping import Float
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

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Float[Tensor, "b o d"]:
        """The same queries for each row, the last axis of the grid fastest."""
        return self.positions(self.positions.shape).dense().expand(batch, -1, -1)


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

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Float[Tensor, "b o d"]:
        """A query for each token.

        Raises:
            ValueError: when no row has the modality.
        """
        tokens = tokens_of(segments, self.modality).dense()
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


def tokens_of(segments: Mapping[str, Tokens], modality: str) -> Tokens:
    """The tokens that queries are made of."""
    if modality not in segments:
        raise ValueError(f"queries are made of {modality!r}, which no row of this batch has; it has {', '.join(segments) or 'nothing'}")
    return segments[modality]
