"""Multimodal Perceivers: one latent array reads pictures, sound and text, and shows how it combined them.

What stands here needs torch, einops and huggingface_hub alone. Training, data and reports have their own imports: `perceiver.tasks`,
`perceiver.data`, `perceiver.explain`.
"""

from typing import TYPE_CHECKING, Any

from perceiver.adapters import Adapter, AudioPatches, ByteNgrams, ImagePatches, ImagePixels, Inputs, ModalityDropout, TextBytes
from perceiver.attention import Attention
from perceiver.blocks import MLP, CrossBlock, SelfBlock, recompute
from perceiver.decoder import Decoder
from perceiver.description import Described, describable
from perceiver.encoder import Encoder, LatentArray
from perceiver.models import LateFusion, MeanPool, MultitaskPerceiver, Perceiver, PerceiverIO, Readout
from perceiver.positions import FourierPositions, LearnedPositions, Positions, Rotary, fourier_axis, rotary_angles, rotate
from perceiver.pretrained import from_pretrained
from perceiver.queries import InputQueries, LearnedQueries, PositionQueries
from perceiver.soft_weights import AttentionMap, AttentionMass, each_head, mean_over_heads, record_attention, record_mass
from perceiver.softmax import attend, segment_mass, soft_weights
from perceiver.tokens import Tokens, lengths_to_mask

if TYPE_CHECKING:
    from perceiver.adapters import LogMel

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Adapter",
    "Attention",
    "AttentionMap",
    "AttentionMass",
    "AudioPatches",
    "ByteNgrams",
    "CrossBlock",
    "Decoder",
    "Described",
    "Encoder",
    "FourierPositions",
    "ImagePatches",
    "ImagePixels",
    "InputQueries",
    "Inputs",
    "LateFusion",
    "LatentArray",
    "LearnedPositions",
    "LearnedQueries",
    "LogMel",
    "MeanPool",
    "ModalityDropout",
    "MultitaskPerceiver",
    "Perceiver",
    "PerceiverIO",
    "PositionQueries",
    "Positions",
    "Readout",
    "Rotary",
    "SelfBlock",
    "TextBytes",
    "Tokens",
    "attend",
    "describable",
    "each_head",
    "fourier_axis",
    "from_pretrained",
    "lengths_to_mask",
    "mean_over_heads",
    "recompute",
    "record_attention",
    "record_mass",
    "rotary_angles",
    "rotate",
    "segment_mass",
    "soft_weights",
]


def __getattr__(name: str) -> Any:
    if name == "LogMel":  # needs torchaudio, which takes a second to import
        from perceiver.adapters import LogMel

        return LogMel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
