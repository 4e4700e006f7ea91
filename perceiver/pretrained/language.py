"""deepmind/language-perceiver: `PerceiverForMaskedLM`."""

from perceiver.models.masked_bytes import MaskedBytes
from perceiver.pretrained import trunk
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import Semantics

QK_DIM, HEADS = 256, 8  # of the decoder; transformers writes them into the class, not into the configuration


def build(config: PublishedConfig, semantics: Semantics) -> MaskedBytes:
    """The model, with random weights."""
    return MaskedBytes(
        trunk.encoder(config, config.d_model, semantics),
        trunk.decoder(config, config.d_model, semantics, residual=False, heads=HEADS, qk_dim=QK_DIM, v_dim=config.d_model),
        max_length=config.max_position_embeddings,
        vocab_size=config.vocab_size,
        adapter=semantics.bytes,
    )


def names(config: PublishedConfig) -> dict[str, str]:
    """Transformers' name of each weight, and ours."""
    return {
        "perceiver.input_preprocessor.embeddings.weight": "inputs.adapters.text.embedding.weight",
        "perceiver.input_preprocessor.position_embeddings.weight": "inputs.adapters.text.positions.weight",
        "perceiver.decoder.output_position_encodings.position_embeddings": "queries.weight",
        "embedding_decoder.bias": "head.bias",
    } | trunk.trunk_names(config, "perceiver.decoder")
