"""The control that knows places, and has no attention: all tokens side by side, into an MLP.

Letters: b batch, w width of the tokens of a modality side by side, k outputs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.models.controls.pooling import in_place, mlp
from perceiver.models.model import Model
from perceiver.tokens import Tokens


class ConcatMLP(Model):
    """The first tokens of each modality, side by side into an MLP, which has weights of its own for each place.

    Args:
        adapters: by the name of the batch entry that each one takes.
        dim: the common width of tokens.
        num_tokens: by modality, how many of its tokens are read; what lies behind is cut off, what is missing reads zero.
        hidden_dim: width of the MLP's two hidden layers.
        num_outputs: classes.
        modality_dropout: hides whole modalities in training.

    Raises:
        ValueError: when a modality has no number of tokens, or one below 1, or there is a number of what is no modality.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        dim: int,
        num_tokens: Mapping[str, int],
        hidden_dim: int,
        num_outputs: int,
        *,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        super().__init__()
        if num_tokens.keys() != adapters.keys() or min(num_tokens.values(), default=1) < 1:
            raise ValueError(f"num_tokens={dict(num_tokens)}: give a number of at least 1 for each of {', '.join(adapters)}, and for nothing else")
        self.inputs = Inputs(adapters, dim, modality_dropout=modality_dropout)
        self.num_tokens = dict(num_tokens)
        self.mlp = mlp(sum(num_tokens.values()) * dim, hidden_dim, num_outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row; a token that a row lacks reads zero."""
        segments, size = self.inputs(batch)
        parts = [self._flat(segments.get(name), self.num_tokens[name], size) for name in self.inputs.adapters]
        return self.mlp(torch.cat(parts, -1))

    def _flat(self, tokens: Tokens | None, places: int, size: int) -> Float[Tensor, "b w"]:
        """A modality's first tokens, one after another."""
        if tokens is None:
            return next(self.parameters()).new_zeros(size, places * self.inputs.dim)
        features, _ = in_place(tokens, size)
        return F.pad(features[:, :places], (0, 0, 0, max(0, places - features.shape[1]))).flatten(1)
