"""The control without attention: the mean token of each modality, side by side, into an MLP.

Letters: b batch, k outputs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.models.controls.pooling import mean_tokens, mlp
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
        self.mlp = mlp(len(adapters) * dim, hidden_dim, num_outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row; a modality that a row lacks reads zero."""
        means = mean_tokens(self.inputs, *self.inputs(batch))
        return self.mlp(torch.cat([mean for mean, _ in means.values()], -1))
