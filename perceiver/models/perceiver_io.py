"""Perceiver IO over any number of modalities (Jaegle et al. 2021, "Perceiver IO: A General Architecture").

Adapters -> tokens -> encoder -> latents -> decoder, asked with queries -> head.

Letters: b batch, o output queries, q their width, k outputs of the head.
"""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout, projection
from perceiver.decoder import Decoder
from perceiver.encoder import Encoder
from perceiver.models.model import Model

Project = Callable[[Adapter, int], nn.Linear | None]


class PerceiverIO(Model):
    """Reads whatever modalities a row has into the latents, and answers output queries from them.

    Args:
        adapters: by the name of the batch entry that each one takes.
        encoder: reads the tokens; its `context_dim` is the common width that they are projected to.
        queries: asks the latents; one of `perceiver.queries`, with a `dim`.
        decoder: lets the queries read the latents.
        head: from an answered query to outputs; `nn.Linear(query_dim, k)` for k classes.
        project: makes the map to the common width of each modality; see `perceiver.Inputs`.
        modality_dropout: hides whole modalities in training.

    Raises:
        ValueError: when widths do not fit one another.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        encoder: Encoder,
        queries: nn.Module,
        decoder: Decoder,
        head: nn.Module,
        *,
        project: Project = projection,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        super().__init__()
        if queries.dim != decoder.query_dim:
            raise ValueError(f"queries have width {queries.dim} and the decoder takes {decoder.query_dim}: make them equal")
        if decoder.latent_dim != encoder.dim:
            raise ValueError(f"the decoder reads latents of width {decoder.latent_dim} and the encoder makes {encoder.dim}: make them equal")
        self.inputs = Inputs(adapters, encoder.context_dim, project=project, modality_dropout=modality_dropout)
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b o k"]:
        """Outputs for each query.

        Args:
            batch: raw entries by modality, with presence and lengths; see `perceiver.Inputs`.
        """
        return self.head(self.answers(batch))

    def answers(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b o q"]:
        """What the decoder answers each query, before the head."""
        segments, size = self.inputs(batch)
        return self.decoder(self.queries(segments, size), self.encoder(segments, size))
