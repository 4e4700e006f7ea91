"""Fixed attention: weights that do not change with the input, to be given in place of `Attention`, so that one sees what its choice is worth.

`attention=UniformAttention` or `attention=ConstantAttention` of a block. All else of a model stays as it is, and so does what is promised
of masks, of rows that lack a modality, and of what is recorded: only the scores are others.

    uniform   every score is zero: each query reads the mean of all that it may attend to
    constant  scores are learned from where queries and keys stand, never from what they hold; Hassid et al. 2022, "How Much Does Attention
              Actually Attend?" (PAPA), whose constant matrices are means of a trained model's; learned ones are the random synthesizer's
              (Tay et al. 2021, "Synthesizer", section 3.2)

What a query may attend to still depends on the row: on what it has, and on masks. Over that, the weights are normalised.

Letters: b batch, h heads, n queries, m context tokens, d query width, e width of all heads' queries and keys, w head width of values.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.attention import Attention, Context, Rotate
from perceiver.description import Described
from perceiver.initialization import waves
from perceiver.tokens import Tokens


class UniformAttention(Attention):
    """Every key that may be attended counts the same. Queries and keys have no weights; those of values and outputs are learned.

    Args:
        dim: width of the queries, and of the output.
        context_dim: width of the context; `dim` when not given.
        heads: number of heads, which all read the same places.
        qk_dim: what queries and keys would have; nothing is left of it but the width of values, where `v_dim` is not given.
        v_dim: width of values, all heads together.
        dropout: share of the weights that are zeroed in training.

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
        self.to_q = self.to_k = _Zeros(self.heads)  # type: ignore[assignment]

    def project(
        self, x: Tensor | Tokens, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None
    ) -> tuple[Float[Tensor, "b h n 1"], Float[Tensor, "b h m 1"], Float[Tensor, "b h m w"], Tensor | None]:
        """Zeros for queries and keys, one channel a head, beside values and mask; there is nothing that could be turned."""
        return super().project(x, context, mask)

    def _asked(self, x: Tensor | Tokens) -> Float[Tensor, "b n h"]:
        return self.to_q(x if isinstance(x, Tensor) else x.features)


class _Zeros(Described):
    """In place of a linear map: zeros, as many channels as there are heads."""

    weight: Tensor

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self.register_buffer("weight", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], self.out_features)


class ConstantAttention(Attention):
    """Weights that are learned, and are the same for every input: a function of the query's place and the key's.

    In the place of a query stands its number, as waves over all numbers; likewise of a key in a tensor, such as latents. Queries and keys
    that are tokens keep their positions and their modality, with zeros for data. The maps from there to queries and keys are learned as
    ever, so a model has as many parameters as with `Attention`. Positions that the data moved into its features are lost: tokens without
    positions of their own (`PlacedBytes`) are all alike here.
    """

    reads_parts = False

    def _asked(self, x: Tensor | Tokens) -> Float[Tensor, "b n e"]:
        rows = len(x if isinstance(x, Tensor) else x.features)
        where = numbered(x) if isinstance(x, Tensor) else x.blank().dense().features
        return self.to_q(where).expand(rows, -1, -1)

    def _keys(self, context: Tensor | Tokens) -> Float[Tensor, "b m e"]:
        rows = len(context if isinstance(context, Tensor) else context.features)
        where = numbered(context) if isinstance(context, Tensor) else context.blank().dense().features
        return self.to_k(where).expand(rows, -1, -1)


def numbered(x: Float[Tensor, "b n d"]) -> Float[Tensor, "1 n d"]:
    """The place of each entry of an array among the others, as waves (`perceiver.initialization.waves`) with a mean square of 1.

    Of x, nothing is used but its shape.
    """
    with torch.no_grad():
        return (2 * waves(x.shape[1], x.shape[2])).to(x)[None]
