"""Text adapter: one token a byte.

Letters: b rows, l bytes.
"""

from jaxtyping import Bool, Int
from torch import Tensor, nn

from perceiver.adapters.adapter import Adapter
from perceiver.positions import LearnedPositions
from perceiver.tokenizer import PAD, VOCAB_SIZE
from perceiver.tokens import Tokens


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
        if payload.ndim != 2 or payload.is_floating_point():
            raise ValueError(f"expected ids of shape (rows, bytes), got {payload.dtype} of {tuple(payload.shape)}")
        if payload.shape[1] > self.max_length:
            raise ValueError(f"a text of {payload.shape[1]} bytes is longer than the table of {self.max_length}: cut it, or raise max_length")
        if mask is not None:
            payload = payload.masked_fill(~mask, PAD)
        length = payload.shape[1]
        return Tokens(self.embedding(payload), (length,), positions=self.positions((length,)), mask=mask)
