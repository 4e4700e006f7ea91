"""Normed attention: queries and keys of a fixed length, so that no head's scores can grow until it sees one place alone.

Henry et al. 2020, "Query-Key Normalization for Transformers", section 3; Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion
Parameters", section 2. The softmax of long queries and keys is a choice of one key, whose gradient is next to nothing: attention that has
collapsed there stays there.

Letters: b batch, h heads, n queries, m keys, e head width of queries and keys, w head width of values.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from perceiver.attention import Attention, Context, Rotate, once
from perceiver.tokens import Tokens

EPS = 1e-6


class NormedAttention(Attention):
    """`Attention` whose queries and keys have a root mean square of 1, times a learned scale for each channel of a head.

    It is `attention=NormedAttention` of a block. No score is larger than sqrt(e) times the product of the largest scales. The norm needs each
    key by itself, so the tokens of a large grid are not read in parts.

    Args:
        dim: width of the queries, and of the output.
        context_dim: width of the context; `dim` when not given.
        heads: number of heads.
        qk_dim: width of queries and keys, all heads together; `dim` when not given.
        v_dim: width of values, all heads together; `qk_dim` when not given.
        dropout: share of the soft weights that are zeroed in training.

    Raises:
        ValueError: when the heads do not divide the widths.
    """

    reads_parts = False

    def __init__(
        self,
        dim: int,
        context_dim: int | None = None,
        *,
        heads: int = 8,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, context_dim, heads=heads, qk_dim=qk_dim, v_dim=v_dim, dropout=dropout)
        width = (qk_dim or dim) // heads
        self.norm_q = nn.RMSNorm(width, eps=EPS)
        self.norm_k = nn.RMSNorm(width, eps=EPS)

    def project(
        self, x: Tensor | Tokens, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h m e"], Float[Tensor, "b h m w"], Bool[Tensor, " b #h #n m"] | None]:
        """Normed queries and keys, turned after that, beside values and mask."""
        q, k, v, mask = super().project(x, context, mask)
        q, k = once(self.norm_q, q), self.norm_k(k)
        if rotate is not None:
            q, k = rotate(q, k)
        return q, k, v, mask
