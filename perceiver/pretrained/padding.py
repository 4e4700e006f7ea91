"""What transformers does with a text that is nothing but padding: its latents read the plain mean of all its tokens.

It adds the most negative number there is to the score of each padded key. Where every key is padded, the scores drown in
that number, and softmax gives each key the same weight. (Where any key is not, it comes to the same as leaving the others out.)
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from perceiver.adapters import PlacedBytes
from perceiver.attention import Attention, Context, Rotate
from perceiver.tokens import Tokens


@dataclass(frozen=True)
class PaddingTokens(Tokens):
    """Tokens of texts some of which may be nothing but padding.

    Attributes:
        padding: which rows are; all their tokens may be attended, and with equal weight.
    """

    padding: Bool[Tensor, " b"] | None = None


class PaddingBytes(PlacedBytes):
    """`PlacedBytes` that lets a text of nothing but padding be read."""

    def forward(self, payload: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None) -> Tokens:
        """Tokens of ids from `perceiver.tokenizer`."""
        if mask is None:
            return super().forward(payload)
        padding = ~mask.any(1)
        tokens = super().forward(payload, mask | padding[:, None])
        return PaddingTokens(tokens.features, tokens.grid, mask=tokens.mask, padding=padding)


class PaddingAttention(Attention):
    """`Attention` that reads `PaddingTokens` as transformers does."""

    def project(
        self, x: Tensor | Tokens, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h m e"], Float[Tensor, "b h m w"], Bool[Tensor, " b #h #n m"] | None]:
        """As ever, but the queries of a row with nothing but padding are zero, which makes all scores equal."""
        q, k, v, attendable = super().project(x, context, mask, rotate)
        if not isinstance(context, Tensor):
            for tokens in context.values():
                if isinstance(tokens, PaddingTokens) and tokens.padding is not None:
                    q = q.masked_fill(tokens.to_batch(tokens.padding, len(q))[:, None, None, None], 0)
        return q, k, v, attendable
