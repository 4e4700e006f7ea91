"""The published architectures, by the name of the class in transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perceiver.models.model import Model
from perceiver.pretrained import flow, language, multimodal, vision
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import Semantics


@dataclass(frozen=True)
class Architecture:
    """How one of them is made.

    Attributes:
        build: the model with random weights.
        names: transformers' name of each weight and buffer, and ours.
    """

    build: Callable[[PublishedConfig, Semantics], Model]
    names: Callable[[PublishedConfig], dict[str, str]]


ARCHITECTURES = {
    "PerceiverForMaskedLM": Architecture(language.build, language.names),
    "PerceiverForImageClassificationLearned": Architecture(vision.learned, vision.learned_names),
    "PerceiverForImageClassificationFourier": Architecture(vision.fourier, vision.fourier_names),
    "PerceiverForImageClassificationConvProcessing": Architecture(vision.conv, vision.conv_names),
    "PerceiverForOpticalFlow": Architecture(flow.build, flow.names),
    "PerceiverForMultimodalAutoencoding": Architecture(multimodal.build, multimodal.names),
}


def architecture(name: str) -> Architecture:
    """By the name of its class.

    Raises:
        ValueError: when no published model is of that class.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"{name!r} is none of the published Perceivers: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


IMAGE: dict[str, Any] = {
    "num_latents": 512,
    "d_latents": 1024,
    "num_blocks": 8,
    "num_self_attends_per_block": 6,
    "num_cross_attention_heads": 1,
    "num_labels": 1000,
}

# The six published models, by their names on the hub: the numbers of DeepMind's notebooks and of transformers' conversion script.
PUBLISHED = {
    "deepmind/language-perceiver": PublishedConfig("PerceiverForMaskedLM", qk_channels=256, v_channels=1280),
    "deepmind/vision-perceiver-learned": PublishedConfig("PerceiverForImageClassificationLearned", image_size=224, **IMAGE),
    "deepmind/vision-perceiver-fourier": PublishedConfig("PerceiverForImageClassificationFourier", **IMAGE),
    "deepmind/vision-perceiver-conv": PublishedConfig("PerceiverForImageClassificationConvProcessing", **IMAGE),
    "deepmind/optical-flow-perceiver": PublishedConfig(
        "PerceiverForOpticalFlow",
        num_latents=2048,
        d_latents=512,
        num_self_attends_per_block=24,
        num_self_attention_heads=16,
        num_cross_attention_heads=1,
    ),
    "deepmind/multimodal-perceiver": PublishedConfig(
        "PerceiverForMultimodalAutoencoding",
        num_latents=784,
        d_latents=512,
        num_self_attends_per_block=8,
        num_cross_attention_heads=1,
        num_labels=700,
    ),
}
