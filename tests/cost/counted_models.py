"""Models of all kinds, small, whose cost is told in these tests."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from perceiver.adapters import ByteNgrams, ImagePixels, LogMel, TextBytes, projection_if_needed
from perceiver.adapters.image_map import ConvStem, FramePair, ImageMap
from perceiver.attention import Attention
from perceiver.blocks import CrossBlock, SelfBlock, recompute
from perceiver.decoder import Decoder
from perceiver.encoder import Encoder
from perceiver.models import MultitaskPerceiver, Perceiver, PerceiverIO, Readout
from perceiver.models.autoencoder import VideoAutoencoder
from perceiver.models.masked_bytes import MaskedBytes
from perceiver.models.optical_flow import OpticalFlow
from perceiver.positions import FourierPositions, LearnedGrid
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics
from perceiver.queries import InputQueries, LearnedQueries, PositionQueries
from tests.builders import (
    CLASSES,
    CONTEXT_DIM,
    DIM,
    MODELS,
    small_encoder,
    three_adapters,
)

REST = "latents, queries, heads"
WIDE = partial(CrossBlock, heads=2, qk_dim=16, v_dim=16)


def pixels(**options: object) -> PerceiverIO:
    """A picture of 1,024 pixels beside a text: the one is read in parts, the other is not."""
    adapters = {"image": ImagePixels(3, (32, 32), num_bands=5), "text": TextBytes(17, 7)}
    encoder = small_encoder(cross_attend=(0, 1), self_attend=(0, 0), cross_block=WIDE, **options)
    return PerceiverIO(adapters, encoder, PositionQueries(FourierPositions((5, 7), 3)), Decoder(14, DIM, chunk_size=11), nn.Linear(14, CLASSES))


def learned_pixels() -> PerceiverIO:
    """Pixels with learned positions, through a map of their own, read as they are."""
    adapter = ImageMap(nn.Conv2d(3, 5, 1), 5, LearnedGrid((32, 32), 7, 6))
    encoder = small_encoder(cross_block=WIDE)
    return PerceiverIO({"image": adapter}, encoder, LearnedQueries(2, 13), Decoder(13, DIM), nn.Linear(13, CLASSES), project=projection_if_needed)


def stem() -> Perceiver:
    return Perceiver({"image": ImageMap(ConvStem(3, 5), 5, FourierPositions((4, 5), 3))}, small_encoder(), nn.Linear(DIM, CLASSES))


def spectrogram() -> PerceiverIO:
    """A spectrogram and n-grams, and queries made of the text."""
    adapters = {"audio": LogMel(8000, 0.3, patch=(2, 20)), "text": ByteNgrams(17, 7, buckets=31)}
    queries = InputQueries("text", CONTEXT_DIM, 13)
    return PerceiverIO(adapters, small_encoder(), queries, Decoder(13, DIM), nn.Sequential(nn.Linear(13, 5), nn.GELU(), nn.Linear(5, CLASSES)))


def multitask() -> MultitaskPerceiver:
    readouts = {name: Readout(LearnedQueries(n, 13), nn.Linear(13, n)) for name, n in (("one", 2), ("other", 3))}
    return MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM), readouts=readouts)


def flow() -> OpticalFlow:
    adapter = FramePair((32, 36), channels=3, dim=5, num_bands=3)
    block = partial(CrossBlock, heads=1, qk_dim=16)
    return OpticalFlow(adapter, Encoder(3, DIM, 19, num_layers=1, cross_block=block, self_block=partial(SelfBlock, heads=2)), Decoder(19, DIM))


def autoencoder() -> VideoAutoencoder:
    config = replace(
        PUBLISHED["deepmind/multimodal-perceiver"],
        num_latents=7,
        d_latents=40,
        num_self_attends_per_block=2,
        num_labels=11,
        image_size=16,
        num_frames=5,
        audio_samples_per_frame=48,
        output_shape=(1, 5, 64, 64),
        output_num_channels=13,
    )
    model = architecture(config.architecture).build(config, semantics("hf"))
    assert isinstance(model, VideoAutoencoder)
    return model


def masked_bytes() -> MaskedBytes:
    return MaskedBytes(small_encoder(), Decoder(CONTEXT_DIM, DIM), max_length=19)


def separate_reads() -> PerceiverIO:
    """Each read hears one modality, and blocks are computed again in the backward pass."""
    encoder = small_encoder(cross_attend=(0, 1, 2), self_attend=(0, 0, 0), reads=[["text"], ["image"], ["audio"]], run_block=recompute)
    return PerceiverIO(three_adapters(), encoder, LearnedQueries(2, 13), Decoder(13, DIM), nn.Linear(13, CLASSES))


EVERY: dict[str, Callable[[], nn.Module]] = {
    **MODELS,
    **{one.__name__: one for one in (pixels, learned_pixels, stem, spectrogram, multitask, flow, autoencoder, masked_bytes, separate_reads)},
}
# Models with grids, or queries, that are not formed token by token; and one that projects the tokens of a text once to read them and once to ask.
TWO_WAYS = {"pixels", "learned_pixels", "flow", "autoencoder", "spectrogram"}
LONG = {"autoencoder", "pixels", "learned_pixels", "flow", "spectrogram", "separate_reads", "LateFusion", "masked_bytes"}


def small_perceiver_io_with(options: dict[str, object]) -> PerceiverIO:
    encoder = small_encoder(**options)
    return PerceiverIO(three_adapters(), encoder, LearnedQueries(2, 13), Decoder(13, DIM), nn.Linear(13, CLASSES))


def pixels_with(kind: type[Attention]) -> PerceiverIO:
    adapters = {"image": ImagePixels(3, (32, 32), num_bands=5), "text": TextBytes(17, 7)}
    encoder = small_encoder(cross_block=partial(WIDE, attention=kind))
    return PerceiverIO(adapters, encoder, LearnedQueries(2, 13), Decoder(13, DIM), nn.Linear(13, CLASSES))
