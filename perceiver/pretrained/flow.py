"""deepmind/optical-flow-perceiver: `PerceiverForOpticalFlow`."""

from perceiver.adapters.image_map import FramePair
from perceiver.models.optical_flow import OpticalFlow
from perceiver.pretrained import trunk
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import Semantics


def build(config: PublishedConfig, semantics: Semantics) -> OpticalFlow:
    """The model, with random weights."""
    adapter = FramePair(config.train_size)
    width = adapter.feature_dim + adapter.position_dim
    return OpticalFlow(adapter, trunk.encoder(config, width, semantics), trunk.decoder(config, width, semantics, residual=False))


def names(config: PublishedConfig) -> dict[str, str]:
    """Transformers' name of each weight, and ours."""
    return {
        "perceiver.input_preprocessor.conv_after_patches.weight": "inputs.adapters.frames.linear.weight",
        "perceiver.input_preprocessor.conv_after_patches.bias": "inputs.adapters.frames.linear.bias",
        "perceiver.decoder.decoder.final_layer.weight": "head.weight",
        "perceiver.decoder.decoder.final_layer.bias": "head.bias",
    } | trunk.trunk_names(config, "perceiver.decoder.decoder")
