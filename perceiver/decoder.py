"""Decoder: output queries attend to the latents, and nothing else (Perceiver IO, section 3.2).

Queries do not see one another, so any number of them can be answered piece by piece with the same result.

Letters: b batch, o output queries, q their width, n latents, d their width.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.blocks import CrossBlock
from perceiver.description import Described
from perceiver.tokens import Tokens


class Decoder(Described):
    """One cross-attend from output queries to latents.

    Args:
        query_dim: width of a query, and of its answer.
        latent_dim: width of a latent.
        cross_block: makes the cross-attend block from `(query_dim, latent_dim)`.
        chunk_size: queries answered at a time, to bound memory; None = all at once.

    Raises:
        ValueError: when the chunk size is below 1.
    """

    def __init__(
        self,
        query_dim: int,
        latent_dim: int,
        *,
        cross_block: Callable[[int, int], nn.Module] = CrossBlock,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size}: give at least 1, or None to answer all queries at once")
        self.query_dim = query_dim
        self.latent_dim = latent_dim
        self.chunk_size = chunk_size
        self.cross = cross_block(query_dim, latent_dim)

    def forward(self, queries: Float[Tensor, "b o q"] | Tokens, latents: Float[Tensor, "b n d"]) -> Float[Tensor, "b o q"]:
        """The answer to each query; queries of a grid are better left in parts, as tokens."""
        if self.chunk_size is None:
            return self.cross(queries, latents)
        if isinstance(queries, Tensor):
            chunks: Iterable[Tensor | Tokens] = queries.split(self.chunk_size, 1)
        else:
            starts = range(0, queries.features.shape[1], self.chunk_size)
            chunks = (queries.some(slice(start, start + self.chunk_size)) for start in starts)
        return torch.cat([self.cross(chunk, latents) for chunk in chunks], 1)
