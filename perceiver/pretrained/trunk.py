"""What all published models have in common: the encoder, the decoder, and what their weights are called.

They are called one thing in transformers and another here; `TRUNK` is the dictionary, read in both directions.
"""

from functools import partial

from torch import nn

from perceiver.blocks import MLP, CrossBlock, NoSkip, SelfBlock
from perceiver.decoder import Decoder
from perceiver.encoder import Encoder
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import Semantics

LAYER = {
    "attention.self.layernorm1": "norm_x",
    "attention.self.layernorm2": "norm_context",
    "attention.self.query": "attention.to_q",
    "attention.self.key": "attention.to_k",
    "attention.self.value": "attention.to_v",
    "attention.output.dense": "attention.to_out",
    "layernorm": "norm_mlp",
    "mlp.dense1": "mlp.0",
    "mlp.dense2": "mlp.2",
}


def skip(residual: bool) -> nn.Module | None:
    """The `skip` of a cross block."""
    return None if residual else NoSkip()


def encoder(config: PublishedConfig, context_dim: int, semantics: Semantics) -> Encoder:
    """One read of the inputs, then a stack of layers that runs `num_blocks` times."""
    activation = semantics.activation()
    width = {"kv": context_dim, "q": config.d_latents}[config.cross_attention_shape_for_attention]
    read = partial(
        CrossBlock,
        heads=config.num_cross_attention_heads,
        qk_dim=config.qk_channels or width,
        v_dim=config.v_channels,
        mlp=partial(MLP, widening=config.cross_attention_widening_factor, activation=activation),
        skip=skip(config.use_query_residual),
        attention=semantics.read,
    )
    layer = partial(
        SelfBlock,
        heads=config.num_self_attention_heads,
        qk_dim=config.qk_channels,
        v_dim=config.v_channels,
        mlp=partial(MLP, widening=config.self_attention_widening_factor, activation=activation),
    )
    return Encoder(
        config.num_latents,
        config.d_latents,
        context_dim,
        cross_attend=[0] + [None] * (config.num_blocks - 1),
        self_attend=[0] * config.num_blocks,
        num_layers=config.num_self_attends_per_block,
        cross_block=read,
        self_block=layer,
    )


def decoder(
    config: PublishedConfig,
    query_dim: int,
    semantics: Semantics,
    *,
    residual: bool,
    heads: int = 1,
    qk_dim: int | None = None,
    v_dim: int | None = None,
    chunk_size: int | None = None,
) -> Decoder:
    """One read of the latents; queries and keys are as wide as a latent when nothing else is said."""
    block = partial(
        CrossBlock,
        heads=heads,
        qk_dim=qk_dim or config.d_latents,
        v_dim=v_dim,
        mlp=partial(MLP, widening=1, activation=semantics.activation()),
        skip=skip(residual),
    )
    return Decoder(query_dim, config.d_latents, cross_block=block, chunk_size=chunk_size)


def trunk_names(config: PublishedConfig, decoder_prefix: str) -> dict[str, str]:
    """Names of the trunk's modules and arrays in transformers, and here; a module stands for its weight and bias.

    Args:
        decoder_prefix: where transformers keeps the decoder: it nests it more or less deeply.
    """
    names = {"perceiver.embeddings.latents": "encoder.latents.weight"}
    places = {"perceiver.encoder.cross_attention": "encoder.cross.0", f"{decoder_prefix}.decoding_cross_attention": "decoder.cross"}
    places |= {f"perceiver.encoder.self_attends.{i}": f"encoder.stacks.0.{i}" for i in range(config.num_self_attends_per_block)}
    for theirs, ours in places.items():
        for part, name in LAYER.items():
            if "self_attends" in theirs and part == "attention.self.layernorm2":
                continue
            for kind in ("weight", "bias"):
                names[f"{theirs}.{part}.{kind}"] = f"{ours}.{name}.{kind}"
    return names
