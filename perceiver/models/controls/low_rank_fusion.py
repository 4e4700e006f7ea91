"""The control that multiplies modalities: low-rank tensor fusion (Liu et al. 2018, "Efficient Low-rank Multimodal Fusion").

Letters: b batch, d width of a token, r rank, h hidden width, k outputs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.initialization import linear
from perceiver.models.controls.pooling import mean_tokens, mlp
from perceiver.models.model import Model


class LowRankFusion(Model):
    """h = sum over r of the product over modalities of W_m^r [z_m; 1], of the normed mean tokens z_m (section 3.2), into an MLP.

    That is one linear map of all products between modalities, of a low rank. The sum over r stands outside the product, as in the
    published code: a product of sums would be of rank 1, whatever r is. The constant parts start at 1, so that a product says from the
    start what each modality says alone, beside what they say together. Of a modality that a row lacks, the constant part is left.

    Args:
        adapters: by the name of the batch entry that each one takes.
        dim: the common width of tokens.
        hidden_dim: width of h, and of the MLP's two hidden layers.
        num_outputs: classes.
        rank: of the tensor.
        modality_dropout: hides whole modalities in training.

    Raises:
        ValueError: when the rank is below 1.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        dim: int,
        hidden_dim: int,
        num_outputs: int,
        *,
        rank: int = 4,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank={rank}: give at least 1")
        self.inputs = Inputs(adapters, dim, modality_dropout=modality_dropout)
        self.rank = rank
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in adapters})
        self.factors = nn.ModuleDict({name: linear(dim, rank * hidden_dim) for name in adapters})
        for factor in self.factors.values():
            nn.init.ones_(factor.bias)  # type: ignore[arg-type]
        self.mlp = mlp(hidden_dim, hidden_dim, num_outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row."""
        means = mean_tokens(self.inputs, *self.inputs(batch))
        factors = [self.factors[name](self.norms[name](mean) * has[:, None]) for name, (mean, has) in means.items()]
        product = torch.stack(factors).prod(0).unflatten(-1, (self.rank, -1))
        return self.mlp(product.sum(1))
