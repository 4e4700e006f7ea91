"""deepmind/vision-perceiver-learned, -fourier and -conv: `PerceiverForImageClassification{Learned,Fourier,ConvProcessing}`."""

from torch import nn

from perceiver.adapters import Adapter, projection_if_needed
from perceiver.adapters.image_map import ConvStem, ImageMap
from perceiver.models.classifier import Classifier
from perceiver.positions import FourierPositions, LearnedGrid
from perceiver.pretrained import trunk
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import Semantics

NUM_BANDS = 64
DECODER = {
    "perceiver.decoder.decoder.output_position_encodings.position_embeddings": "queries.weight",
    "perceiver.decoder.decoder.final_layer.weight": "head.weight",
    "perceiver.decoder.decoder.final_layer.bias": "head.bias",
}


def learned(config: PublishedConfig, semantics: Semantics) -> Classifier:
    """Pixels through one linear map, and learned positions."""
    adapter = ImageMap(nn.Conv2d(3, 256, 1), 256, LearnedGrid((config.image_size, config.image_size), 256, 256))
    return classifier(config, adapter, semantics, residual=semantics.learned_residual)


def fourier(config: PublishedConfig, semantics: Semantics) -> Classifier:
    """Pixels as they are."""
    return classifier(config, ImageMap(nn.Identity(), 3, FourierPositions((224, 224), NUM_BANDS)), semantics)


def conv(config: PublishedConfig, semantics: Semantics) -> Classifier:
    """Pixels through a convolution."""
    stem = ConvStem(conv_pad=semantics.conv_pad, pool_pad=semantics.pool_pad)
    return classifier(config, ImageMap(stem, 64, FourierPositions((56, 56), NUM_BANDS)), semantics)


def classifier(config: PublishedConfig, adapter: Adapter, semantics: Semantics, *, residual: bool = True) -> Classifier:
    """The model, with random weights."""
    context_dim = adapter.feature_dim + adapter.position_dim
    return Classifier(
        {"image": adapter},
        trunk.encoder(config, context_dim, semantics),
        trunk.decoder(config, config.d_latents, semantics, residual=residual),
        config.num_labels,
        project=projection_if_needed,
    )


def learned_names(config: PublishedConfig) -> dict[str, str]:
    """Transformers' name of each weight, and ours."""
    theirs, ours = "perceiver.input_preprocessor", "inputs.adapters.image"
    return {
        f"{theirs}.convnet_1x1.weight": f"{ours}.stem.weight",
        f"{theirs}.convnet_1x1.bias": f"{ours}.stem.bias",
        f"{theirs}.position_embeddings.position_embeddings": f"{ours}.positions.weight",
        f"{theirs}.positions_projection.weight": f"{ours}.positions.project.weight",
        f"{theirs}.positions_projection.bias": f"{ours}.positions.project.bias",
    } | fourier_names(config)


def fourier_names(config: PublishedConfig) -> dict[str, str]:
    """Transformers' name of each weight, and ours."""
    return DECODER | trunk.trunk_names(config, "perceiver.decoder.decoder")


def conv_names(config: PublishedConfig) -> dict[str, str]:
    """Transformers' name of each weight, and ours."""
    theirs, ours = "perceiver.input_preprocessor.convnet", "inputs.adapters.image.stem"
    norm = {f"{theirs}.batchnorm.{name}": f"{ours}.norm.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    return {f"{theirs}.conv.weight": f"{ours}.conv.weight"} | norm | fourier_names(config)
