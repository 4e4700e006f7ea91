"""The places in which transformers' port and DeepMind's original do different things with the same weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from perceiver.adapters import PlacedBytes
from perceiver.attention import Attention
from perceiver.pretrained.padding import PaddingAttention, PaddingBytes

Name = Literal["hf", "deepmind"]


@dataclass(frozen=True)
class Semantics:
    """Which of the two the numbers follow.

    Attributes:
        name: `hf` or `deepmind`.
        activation: makes the nonlinearity of the MLPs: exact GELU in transformers, its tanh approximation at DeepMind (`jax.nn.gelu`).
        read: the attention that reads the inputs: what a row reads in which all is padding differs.
        bytes: the adapter of bytes, for the same reason.
        conv_pad: what the convolution of `vision-perceiver-conv` is padded with, before and after. DeepMind pads as TensorFlow does, so
            that 224 pixels become 56; transformers' become 55.
        pool_pad: likewise, the maximum after it.
        learned_residual: whether the decoder of `vision-perceiver-learned` adds the query to what it read (transformers).
    """

    name: Name
    activation: Callable[[], nn.Module]
    read: type[Attention]
    bytes: type[PlacedBytes]
    conv_pad: tuple[int, int]
    pool_pad: tuple[int, int]
    learned_residual: bool


def semantics(name: str) -> Semantics:
    """By its name.

    Raises:
        ValueError: when it is neither of the two.
    """
    if name == "hf":
        return Semantics("hf", nn.GELU, PaddingAttention, PaddingBytes, conv_pad=(3, 3), pool_pad=(0, 0), learned_residual=True)
    if name == "deepmind":
        return Semantics("deepmind", lambda: nn.GELU("tanh"), Attention, PlacedBytes, conv_pad=(2, 3), pool_pad=(0, 1), learned_residual=False)
    raise ValueError(f"semantics={name!r}: choose one of {', '.join(get_args(Name))}")
