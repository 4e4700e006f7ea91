"""The first Perceiver over any number of modalities (Jaegle et al. 2021, "Perceiver: General Perception with Iterative Attention").

Letters: b batch, k outputs of the head.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.encoder import Encoder
from perceiver.models.model import Model


class Perceiver(Model):
    """Reads whatever modalities a row has into the latents, again and again, and classifies their mean.

    Args:
        adapters: by the name of the batch entry that each one takes.
        encoder: reads the tokens, in as many steps as its `cross_attend` says.
        head: from the mean of the latents to outputs; `nn.Linear(dim, k)` for k classes.
        modality_dropout: hides whole modalities in training.
    """

    def __init__(self, adapters: dict[str, Adapter], encoder: Encoder, head: nn.Module, *, modality_dropout: ModalityDropout | None = None) -> None:
        super().__init__()
        self.inputs = Inputs(adapters, encoder.context_dim, modality_dropout=modality_dropout)
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.dim)
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Outputs for each row.

        Args:
            batch: raw entries by modality, with presence and lengths; see `perceiver.Inputs`.
        """
        segments, size = self.inputs(batch)
        return self.head(self.norm(self.encoder(segments, size).mean(1)))
