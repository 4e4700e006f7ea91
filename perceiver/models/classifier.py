"""One query, one answer: the published image classifiers (Perceiver IO, section 4.5).

Letters: b batch, k classes.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from perceiver.adapters import Adapter, projection
from perceiver.decoder import Decoder
from perceiver.encoder import Encoder
from perceiver.initialization import linear
from perceiver.models.perceiver_io import PerceiverIO, Project
from perceiver.queries import LearnedQueries


class Classifier(PerceiverIO):
    """`PerceiverIO` with one learned query, and a score for each class.

    Args:
        adapters: by the name of the batch entry that each one takes.
        encoder: reads the tokens.
        decoder: lets the query read the latents.
        num_classes: number of classes.
        project: makes the map to the common width of each modality; see `perceiver.Inputs`.
    """

    def __init__(self, adapters: dict[str, Adapter], encoder: Encoder, decoder: Decoder, num_classes: int, *, project: Project = projection) -> None:
        queries, head = LearnedQueries(1, decoder.query_dim), linear(decoder.query_dim, num_classes)
        super().__init__(adapters, encoder, queries, decoder, head, project=project)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """Scores of each class before the softmax."""
        return super().forward(batch)[:, 0]
