"""The numbers of a published model, as transformers writes them into `config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class PublishedConfig:
    """What `config.json` says of a Perceiver, under the names that it uses there; what it leaves out has transformers' default.

    Attributes:
        architecture: the class that the weights belong to, such as `PerceiverForMaskedLM`.
        num_latents: rows of the latent array.
        d_latents: width of a latent.
        d_model: width of a byte's vector (language model).
        num_blocks: how often the stack of layers runs, with the same weights.
        num_self_attends_per_block: layers of the stack.
        num_self_attention_heads: of each layer.
        num_cross_attention_heads: of the read of the inputs.
        qk_channels: width of queries and keys in the encoder; that of the inputs (read) and of the latents (stack) when None.
        v_channels: width of values in the encoder; that of queries and keys when None.
        cross_attention_shape_for_attention: whose width the keys of the read take without `qk_channels`: `kv` the inputs', `q` the latents'.
        self_attention_widening_factor: hidden width of the stack's MLPs, in latents' widths.
        cross_attention_widening_factor: likewise, of the read.
        attention_probs_dropout_prob: share of the soft weights that transformers zeroes in training; DeepMind trained with none.
        use_query_residual: whether the latents are added to what they read.
        vocab_size: ids (language model).
        max_position_embeddings: places (language model).
        image_size: rows and columns of a picture with learned positions.
        train_size: rows and columns of a pair of frames (optical flow).
        num_frames: frames of a video (autoencoder).
        audio_samples_per_frame: samples of sound for each frame (autoencoder).
        samples_per_patch: samples in a patch of sound (autoencoder).
        output_shape: (1, frames, rows, columns) of the video that is written (autoencoder).
        output_num_channels: width of an answer before the heads (autoencoder).
        num_labels: classes.
    """

    architecture: str
    num_latents: int = 256
    d_latents: int = 1280
    d_model: int = 768
    num_blocks: int = 1
    num_self_attends_per_block: int = 26
    num_self_attention_heads: int = 8
    num_cross_attention_heads: int = 8
    qk_channels: int | None = None
    v_channels: int | None = None
    cross_attention_shape_for_attention: str = "kv"
    self_attention_widening_factor: int = 1
    cross_attention_widening_factor: int = 1
    attention_probs_dropout_prob: float = 0.1
    use_query_residual: bool = True
    vocab_size: int = 262
    max_position_embeddings: int = 2048
    image_size: int = 56
    train_size: tuple[int, ...] = (368, 496)
    num_frames: int = 16
    audio_samples_per_frame: int = 1920
    samples_per_patch: int = 16
    output_shape: tuple[int, ...] = (1, 16, 224, 224)
    output_num_channels: int = 512
    num_labels: int = 2

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "PublishedConfig":
        """From the content of `config.json`. Names that have nothing to do with the numbers (`torch_dtype`, say) are passed over.

        Raises:
            ValueError: when it belongs to another kind of model, names no class, or asks for what no published Perceiver has.
        """
        if content.get("model_type") != "perceiver":
            raise ValueError(f"model_type is {content.get('model_type')!r}, and only 'perceiver' is read here")
        classes = content.get("architectures") or []
        if len(classes) != 1:
            raise ValueError(f"architectures is {classes!r}: it must name the one class that the weights belong to, such as PerceiverForMaskedLM")
        if content.get("hidden_act", "gelu") != "gelu":
            raise ValueError(f"hidden_act is {content['hidden_act']!r}; the published Perceivers have 'gelu'")
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        labels = content.get("id2label")
        if labels is not None and "num_labels" not in values:
            values["num_labels"] = len(labels)
        return cls.of({"architecture": classes[0], **values})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "PublishedConfig":
        """From its fields by name, as JSON keeps them."""
        numbers: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**numbers)
