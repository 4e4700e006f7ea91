"""deepmind/multimodal-perceiver: `PerceiverForMultimodalAutoencoding`."""

from perceiver.adapters import Adapter
from perceiver.adapters.padded import OneToken, Padded, SoundPatches, VideoPatches
from perceiver.models.autoencoder import GridQueries, VectorQuery, VideoAutoencoder
from perceiver.pretrained import trunk
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import Semantics

LABEL_DIM = 1024  # of the learned query for the label
HIDDEN = {"audio": 0.0, "image": 0.0, "label": 1.0}  # share of the tokens that the model does not get to see
MODALITIES = ("audio", "image", "label")


def build(config: PublishedConfig, semantics: Semantics) -> VideoAutoencoder:
    """The model, with random weights."""
    num_samples = config.num_frames * config.audio_samples_per_frame
    resolution = (config.num_frames, config.image_size, config.image_size)
    audio, image = SoundPatches(num_samples, patch=config.samples_per_patch), VideoPatches(resolution)
    adapters: dict[str, Adapter] = {"audio": audio, "image": image, "label": OneToken(config.num_labels)}
    width = max(adapter.feature_dim + adapter.position_dim for adapter in adapters.values()) + 4
    dim = max(LABEL_DIM, audio.position_dim, image.position_dim) + 2
    return VideoAutoencoder(
        {name: Padded(adapter, width, hidden=HIDDEN[name]) for name, adapter in adapters.items()},
        trunk.encoder(config, width, semantics),
        {
            "audio": GridQueries((num_samples // config.samples_per_patch,), audio.positions.num_bands, (num_samples,), dim),
            "image": GridQueries(config.output_shape[1:], image.positions.num_bands, resolution, dim),
            "label": VectorQuery(dim, LABEL_DIM),
        },
        trunk.decoder(config, dim, semantics, residual=False),
        head_dim=config.output_num_channels,
        outputs={"audio": config.samples_per_patch, "image": 3, "label": config.num_labels},
    )


def names(config: PublishedConfig) -> dict[str, str]:
    """Transformers' name of each weight, and ours."""
    found = {"perceiver.decoder.modalities.label.decoder.output_position_encodings.position_embeddings": "queries.label.weight"}
    for name in MODALITIES:
        found[f"perceiver.input_preprocessor.padding.{name}"] = f"inputs.adapters.{name}.padding"
        found[f"perceiver.input_preprocessor.mask.{name}"] = f"inputs.adapters.{name}.token"
        found[f"perceiver.decoder.padding.{name}"] = f"queries.{name}.padding"
    for kind in ("weight", "bias"):
        found[f"perceiver.decoder.decoder.final_layer.{kind}"] = f"answer.{kind}"
        for name in MODALITIES:
            found[f"perceiver.output_postprocessor.modalities.{name}.classifier.{kind}"] = f"heads.{name}.{kind}"
    return found | trunk.trunk_names(config, "perceiver.decoder.decoder")
