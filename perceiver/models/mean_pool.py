"""The control without attention: the mean token of each modality, side by side, into an MLP.

Letters: b batch, m tokens, c their width, k outputs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.models.model import Model


class MeanPool(Model):
    """The adapters of a Perceiver, and no attention: what is left of its answer shows what attention is worth.

    Args:
        adapters: by the name of the batch entry that each one takes.
        dim: the common width of tokens.
        hidden_dim: width of the MLP's two hidden layers.
        num_outputs: classes.
        modality_dropout: hides whole modalities in training.
    """

    def __init__(
        self, adapters: dict[str, Adapter], dim: int, hidden_dim: int, num_outputs: int, *, modality_dropout: ModalityDropout | None = None
    ) -> None:
        super().__init__()
        self.inputs = Inputs(adapters, dim, modality_dropout=modality_dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(len(adapters) * dim),
            nn.Linear(len(adapters) * dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, num_outputs),
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row; a modality that a row lacks reads zero."""
        segments, size = self.inputs(batch)
        means = []
        for name in self.inputs.adapters:
            if name not in segments:
                means.append(next(self.parameters()).new_zeros(size, self.inputs.dim))
                continue
            tokens = segments[name].dense()
            valid = tokens.attendable(size)[..., None]
            features = tokens.to_batch(tokens.features, size).masked_fill(~valid, 0)
            means.append(features.sum(1) / valid.sum(1).clamp_min(1))
        return self.mlp(torch.cat(means, -1))
