"""Text adapters: one token a byte.

Letters: b rows, l bytes, d channels.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters.adapter import Adapter, check_mask
from perceiver.initialization import Start, small_array
from perceiver.positions import LearnedPositions
from perceiver.tokenizer import PAD, VOCAB_SIZE
from perceiver.tokens import Tokens

HASH_BASE = 0x5851F42D4C957F2D  # an odd multiplier whose products wrap around evenly (Knuth's MMIX)


class TextBytes(Adapter):
    """A learned vector for each byte, beside a learned vector for its place.

    Args:
        max_length: places in the position table.
        dim: channels of a byte, and again of a place.
        vocab_size: number of ids.
    """

    def __init__(self, max_length: int, dim: int = 64, *, vocab_size: int = VOCAB_SIZE) -> None:
        super().__init__()
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size, dim)
        self.positions = LearnedPositions(max_length, dim)
        self.feature_dim = dim
        self.position_dim = self.positions.width

    def forward(self, payload: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None) -> Tokens:
        """Tokens of ids from `perceiver.tokenizer`.

        Raises:
            ValueError: when the ids are not whole numbers in two axes, or the text is longer than the table.
        """
        if payload.ndim != 2 or payload.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"expected ids of shape (rows, bytes), got {payload.dtype} of {tuple(payload.shape)}")
        if payload.shape[1] > self.max_length:
            raise ValueError(f"a text of {payload.shape[1]} bytes is longer than the table of {self.max_length}: cut it, or raise max_length")
        check_mask(mask, *payload.shape)
        if mask is not None:
            payload = payload.masked_fill(~mask, PAD)
        length = payload.shape[1]
        try:
            features = self.embed(payload)
        except IndexError as error:
            raise ValueError(f"ids from {payload.min()} to {payload.max()}, and this table has 0 to {self.embedding.num_embeddings - 1}") from error
        return Tokens(features, (length,), positions=self.positions((length,)), mask=mask)

    def largest(self, rows: int) -> Int[Tensor, "b l"]:
        """A text that fills the table of places, all zeros."""
        return torch.zeros(rows, self.max_length, dtype=torch.long)

    def embed(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """A vector for each byte."""
        return self.embedding(ids)


class PlacedBytes(TextBytes):
    """`TextBytes` whose two vectors are summed, as in the published language model (Perceiver IO, section 4.1).

    Args:
        max_length: places in the position table.
        dim: channels of a byte, which are those of its place.
        vocab_size: number of ids.
        places: makes the table of places; see `perceiver.initialization`.
    """

    def __init__(self, max_length: int, dim: int = 768, *, vocab_size: int = VOCAB_SIZE, places: Start = small_array) -> None:
        super().__init__(max_length, dim, vocab_size=vocab_size)
        self.positions = LearnedPositions(max_length, dim, start=places)
        nn.init.normal_(self.embedding.weight, std=0.1)  # no louder than the places, which are summed with it
        self.position_dim = 0

    def forward(self, payload: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None) -> Tokens:
        """Tokens of ids from `perceiver.tokenizer`.

        Raises:
            ValueError: when the ids are not whole numbers in two axes, or the text is longer than the table.
        """
        apart = super().forward(payload, mask)
        return replace(apart, features=apart.features + self.positions(apart.grid).dense(), positions=None)


class ByteNgrams(TextBytes):
    """`TextBytes` in which each byte knows the few before it: its vector is summed with one for each n-gram that ends at it.

    N-grams are hashed into tables of a fixed size, so there is no vocabulary (Pagnoni et al. 2024, "Byte Latent Transformer", section
    3.2.1). For small sets of texts: a model need not first learn to spell.

    Args:
        max_length: places in the position table.
        dim: channels of a byte, and again of a place.
        sizes: bytes in an n-gram, each size with a table of its own.
        buckets: vectors in a table.
        dropout: in training, share of the n-grams that is left out; the bytes stay.
        vocab_size: number of ids.

    Raises:
        ValueError: when an n-gram is shorter than two bytes, or there are no buckets.
    """

    def __init__(
        self,
        max_length: int,
        dim: int = 64,
        *,
        sizes: Sequence[int] = (2, 3, 4),
        buckets: int = 8192,
        dropout: float = 0.0,
        vocab_size: int = VOCAB_SIZE,
    ) -> None:
        super().__init__(max_length, dim, vocab_size=vocab_size)
        if not sizes or min(sizes) < 2 or buckets < 1:
            raise ValueError(f"sizes={list(sizes)} and buckets={buckets}: give n-grams of at least 2 bytes, and at least one bucket")
        self.sizes = tuple(sizes)
        self.buckets = buckets
        self.ngrams = nn.ModuleList(nn.Embedding(buckets, dim) for _ in self.sizes)
        self.drop = nn.Dropout1d(dropout)  # whole vectors

    def embed(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """The sum of the vectors of a byte and of the n-grams that end at it, with the variance of one vector."""
        total = self.embedding(ids)
        for table, rows in zip(self.ngrams, self.hashes(ids), strict=True):
            total = total + self.drop(table(rows))
        return total * (1 + len(self.sizes)) ** -0.5

    def hashes(self, ids: Int[Tensor, "b l"]) -> list[Int[Tensor, "b l"]]:
        """The bucket of the n-gram that ends at each byte, for each size; before the first byte stands PAD."""
        found: list[Tensor] = []
        total = ids
        for before in range(1, max(self.sizes)):
            total = total * HASH_BASE + F.pad(ids, (before, 0))[:, : ids.shape[1]]
            if before + 1 in self.sizes:
                found.append(((total ^ (total >> 29)) * HASH_BASE >> 16) % self.buckets)
        return [found[sorted(self.sizes).index(size)] for size in self.sizes]
