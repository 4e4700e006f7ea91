"""The control that weighs whole modalities: gated multimodal units (Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion").

Letters: b batch, d width of a token, h hidden width, s modalities, k outputs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.initialization import linear
from perceiver.models.controls.pooling import mean_tokens, mlp
from perceiver.models.model import Model


class GatedFusion(Model):
    """h = sum over modalities of gate * tanh(W_m x_m), of the mean tokens x_m (section 3.1), into an MLP.

    The gates, one for each hidden channel, see all modalities and are 1 in sum over those that a row has: with two modalities that is
    the paper's z and 1 - z. A modality that a row lacks has no gate.

    Args:
        adapters: by the name of the batch entry that each one takes.
        dim: the common width of tokens.
        hidden_dim: width of h, and of the MLP's two hidden layers.
        num_outputs: classes.
        modality_dropout: hides whole modalities in training.
    """

    def __init__(
        self, adapters: dict[str, Adapter], dim: int, hidden_dim: int, num_outputs: int, *, modality_dropout: ModalityDropout | None = None
    ) -> None:
        super().__init__()
        self.inputs = Inputs(adapters, dim, modality_dropout=modality_dropout)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in adapters})
        self.values = nn.ModuleDict({name: linear(dim, hidden_dim) for name in adapters})
        self.gates = linear(len(adapters) * dim, len(adapters) * hidden_dim)
        self.mlp = mlp(hidden_dim, hidden_dim, num_outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row; h of a row with nothing is zero."""
        means = mean_tokens(self.inputs, *self.inputs(batch))
        has = torch.stack([has for _, has in means.values()], 1)[..., None]
        normed = {name: self.norms[name](mean) * has[:, i] for i, (name, (mean, _)) in enumerate(means.items())}
        values = torch.stack([self.values[name](x).tanh() for name, x in normed.items()], 1)
        scores = self.gates(torch.cat(list(normed.values()), -1)).unflatten(-1, (len(normed), -1))
        return self.mlp((self._shares(scores, has) * values).sum(1))

    def _shares(self, scores: Float[Tensor, "b s h"], has: Tensor) -> Float[Tensor, "b s h"]:
        """Softmax over the modalities that a row has; zeros where it has none."""
        nothing = ~has.any(1, keepdim=True)
        return scores.masked_fill(~(has | nothing), -torch.inf).softmax(1).masked_fill(~has, 0)
