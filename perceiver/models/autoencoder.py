"""The published autoencoder: video, sound and label into one latent array, and out of it again (Perceiver IO, section 4.4, appendix G).

Letters: b batch, k places that are asked for, q width of a query, n latents, d their width.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters import Adapter, Inputs, ModalityDropout, projection_if_needed
from perceiver.decoder import Decoder
from perceiver.description import Described
from perceiver.encoder import Encoder
from perceiver.initialization import linear, small_array
from perceiver.linear import is_plain
from perceiver.models.model import Model
from perceiver.positions import Positions, fourier_features
from perceiver.tokens import Tokens

Places = Mapping[str, Int[Tensor, " _"]]


class GridQueries(Described):
    """A query for each place of a grid: Fourier features, and a learned vector that says which modality it is.

    Place i of n along an axis is at -1 + 2 i / n: the published model was always asked for some places at a time, and those
    are placed so. (Whole grids, such as the inputs', run from -1 to 1 with both ends.)

    Args:
        shape: places along each axis.
        num_bands: Fourier bands an axis.
        max_resolution: sets the highest band of each axis.
        dim: width of a query.
    """

    def __init__(self, shape: Sequence[int], num_bands: int, max_resolution: Sequence[int], dim: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.num_bands = num_bands
        self.padding = small_array(1, dim - len(self.shape) * (1 + 2 * num_bands))
        for axis, (places, resolution) in enumerate(zip(shape, max_resolution, strict=True)):
            position = -1 + 2 * torch.arange(places) / torch.tensor(places)
            self.register_buffer(f"axis_{axis}", fourier_features(position, num_bands, resolution), persistent=False)

    @property
    def num_places(self) -> int:
        """Places of the whole grid."""
        return math.prod(self.shape)

    def forward(self, places: Int[Tensor, " k"], batch: int) -> Tokens:
        """Queries for some places, counted with the last axis fastest; in parts, since they are nothing but positions."""
        tables = tuple(self.get_buffer(f"axis_{axis}") for axis in range(len(self.shape)))
        positions = Positions(tables, (1, self.num_bands, self.num_bands))
        return Tokens(self.padding.new_empty(batch, len(places), 0), (len(places),), positions, constant=self.padding[0], places=places)


class VectorQuery(Described):
    """One learned query, in two parts, as the published weights have it.

    Args:
        dim: width of the query.
        width: of its first part.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.weight = small_array(1, width)
        self.padding = small_array(1, dim - width)

    @property
    def num_places(self) -> int:
        """It is one."""
        return 1

    def forward(self, places: Int[Tensor, " k"], batch: int) -> Float[Tensor, "b k q"]:
        """The query."""
        return torch.cat([self.weight, self.padding], -1)[places].expand(batch, -1, -1)


class Autoencoder(Model):
    """Reads modalities into the latents, and writes each of them again, in whole or at some places.

    Args:
        adapters: make tokens of the width that the encoder reads.
        encoder: reads them.
        queries: by modality; called with places and the number of rows; `num_places` tells how many places there are.
        decoder: answers queries.
        head_dim: width of an answer before the heads.
        outputs: by modality, channels that are written at each place.
        scales: what is written of a modality is multiplied by it, 1 where there is none: a head starts with answers of about that size.
        chunk_size: places that are asked for at a time when all are.
        modality_dropout: hides modalities in training; what is hidden is to be written all the same.

    Raises:
        ValueError: when there is a scale of what is not written.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        encoder: Encoder,
        queries: Mapping[str, nn.Module],
        decoder: Decoder,
        *,
        head_dim: int,
        outputs: Mapping[str, int],
        scales: Mapping[str, float] | None = None,
        chunk_size: int = 16384,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(adapters, encoder.context_dim, project=projection_if_needed, modality_dropout=modality_dropout)
        self.encoder = encoder
        self.queries = nn.ModuleDict(queries)
        self.decoder = decoder
        self.answer = linear(decoder.query_dim, head_dim)
        self.heads = nn.ModuleDict({name: linear(head_dim, channels) for name, channels in outputs.items()})
        self.scales = dict(scales or {})
        self.chunk_size = chunk_size
        if unknown := self.scales.keys() - outputs:
            raise ValueError(f"scales of {', '.join(sorted(unknown))}: this model writes {', '.join(outputs)}")

    def forward(self, batch: Mapping[str, Tensor], places: Places | None = None) -> dict[str, Float[Tensor, "b _ _"]]:
        """What is written, by modality.

        Args:
            batch: raw entries by modality; see `perceiver.Inputs`.
            places: which places of each modality are asked for; of those that it does not name, all are.
        """
        return self.decode(self.encode(batch), places)

    def encode(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b n d"]:
        """The latents."""
        return self.encoder(*self.inputs(batch))

    def decode(self, latents: Float[Tensor, "b n d"], places: Places | None = None) -> dict[str, Float[Tensor, "b _ _"]]:
        """What the latents say, by modality, chunk by chunk."""
        found = {}
        for name, queries in self.queries.items():
            asked = (places or {}).get(name)
            if asked is None:
                asked = torch.arange(queries.num_places, device=latents.device)  # type: ignore[call-overload]
            found[name] = torch.cat([self._decode(name, chunk, latents) for chunk in asked.split(self.chunk_size)], 1)
        return found

    def _decode(self, name: str, places: Tensor, latents: Tensor) -> Tensor:
        queries = self.queries[name](places, len(latents))
        return self.scales.get(name, 1.0) * one_after_another(self.decoder(queries, latents), self.answer, self.heads[name])


def one_after_another(x: Float[Tensor, "b k q"], first: nn.Module, second: nn.Module) -> Float[Tensor, "b k _"]:
    """second(first(x)). Where both are linear and what comes out is narrow, they are one map: their product, which many places share."""
    if not (is_plain(first) and is_plain(second)) or second.out_features >= min(first.out_features, x.shape[1]):
        return second(first(x))
    weight = second.weight @ first.weight
    return F.linear(x, weight, torch.addmv(second.bias, second.weight, first.bias))


class VideoAutoencoder(Autoencoder):
    """`Autoencoder` of `image` (a video), `audio` and `label`, or some of them, which gives each in the form that it came in."""

    def forward(self, batch: Mapping[str, Tensor], places: Places | None = None) -> dict[str, Tensor]:
        """What is written.

        Returns:
            `image`: (b, frames, colours, y, x), or (b, k, colours) at k places; `audio`: (b, samples, 1), or the samples of k patches
            one after another, (b, samples); `label`: (b, classes), before the softmax.
        """
        found = super().forward(batch, places)
        if "image" in found and "image" not in (places or {}):
            frames, rows, _ = self.queries["image"].shape  # type: ignore[misc]
            found["image"] = rearrange(found["image"], "b (t y x) c -> b t c y x", t=frames, y=rows)
        if "audio" in found:
            samples = found["audio"].flatten(1)
            found["audio"] = samples if "audio" in (places or {}) else samples[..., None]
        if "label" in found:
            found["label"] = found["label"][:, 0]
        return found
