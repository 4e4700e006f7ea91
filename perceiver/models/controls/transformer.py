"""The control without a bottleneck: a plain Transformer over the tokens of all modalities and a class token (Dosovitskiy et al. 2021, section 3.1).

Letters: b batch, m tokens, d their width, k outputs.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.blocks import SelfBlock
from perceiver.encoder import LatentArray
from perceiver.models.controls.pooling import in_place
from perceiver.models.model import Model


class TransformerBaseline(Model):
    """Every token attends to every other, in each layer; the class token is read out. Time and memory grow with the square of the tokens.

    Args:
        adapters: by the name of the batch entry that each one takes.
        dim: the common width of tokens.
        num_outputs: classes.
        num_layers: self-attend blocks.
        self_block: makes a block from `dim`.
        modality_dropout: hides whole modalities in training.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        dim: int,
        num_outputs: int,
        *,
        num_layers: int = 6,
        self_block: Callable[[int], nn.Module] = SelfBlock,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(adapters, dim, modality_dropout=modality_dropout)
        self.class_token = LatentArray(1, dim)
        self.blocks = nn.ModuleList(self_block(dim) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row. Tokens that it lacks are there, for the shape, and nobody attends to them."""
        segments, size = self.inputs(batch)
        token = self.class_token(size)
        features, masks = [token], [torch.ones(size, 1, dtype=torch.bool, device=token.device)]
        for tokens in segments.values():
            placed, valid = in_place(tokens, size)
            features.append(placed)
            masks.append(valid)
        x, mask = torch.cat(features, 1), torch.cat(masks, 1)
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.head(self.norm(x[:, 0]))
