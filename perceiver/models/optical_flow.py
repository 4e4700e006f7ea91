"""The published optical flow: where each pixel of the first frame goes (Perceiver IO, section 4.3 and appendix H).

Letters: b batch, y x rows and columns.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from perceiver.adapters import Adapter, projection_if_needed
from perceiver.adapters.image_map import FramePair
from perceiver.decoder import Decoder
from perceiver.encoder import Encoder
from perceiver.initialization import linear
from perceiver.models.perceiver_io import PerceiverIO
from perceiver.queries import TokenQueries


class OpticalFlow(PerceiverIO):
    """Each pair of pixels is a token, and the same token is the query for the pixel's movement.

    Args:
        adapter: of pairs of frames.
        encoder: reads the tokens as they are.
        decoder: answers them.
        scale: what the answers are divided by.
        others: adapters of other modalities, which are read beside the frames.
    """

    def __init__(
        self, adapter: FramePair, encoder: Encoder, decoder: Decoder, *, scale: float = 100.0, others: Mapping[str, Adapter] | None = None
    ) -> None:
        queries = TokenQueries("frames", encoder.context_dim)
        adapters = {"frames": adapter} | dict(others or {})
        super().__init__(adapters, encoder, queries, decoder, linear(decoder.query_dim, 2), project=projection_if_needed)
        self.scale = scale
        self.size = adapter.positions.shape

    @property
    def others(self) -> dict[str, Adapter]:
        """Adapters of all modalities but the frames."""
        return {name: adapter for name, adapter in self.adapters.items() if name != "frames"}  # type: ignore[misc]

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b y x 2"]:
        """Movement of each pixel, to the right and down, in units of the model: 20 pixels for the published weights.

        Args:
            batch: `frames`, (b, 2, channels, y, x).
        """
        return (super().forward(batch) / self.scale).unflatten(1, self.size)
