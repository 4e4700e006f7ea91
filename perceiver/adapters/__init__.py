"""Adapters: one file a modality, from a raw batch entry to tokens. `LogMel` alone needs torchaudio, and loads when asked for."""

from typing import TYPE_CHECKING, Any

from perceiver.adapters.adapter import Adapter
from perceiver.adapters.audio import AudioPatches
from perceiver.adapters.image import ImagePatches, ImagePixels
from perceiver.adapters.inputs import Inputs, ModalityDropout, projection, projection_by_channel, projection_if_needed
from perceiver.adapters.text import ByteNgrams, PlacedBytes, TextBytes

if TYPE_CHECKING:
    from perceiver.adapters.log_mel import LogMel

__all__ = [
    "Adapter",
    "AudioPatches",
    "ByteNgrams",
    "ImagePatches",
    "ImagePixels",
    "Inputs",
    "LogMel",
    "ModalityDropout",
    "PlacedBytes",
    "TextBytes",
    "projection",
    "projection_by_channel",
    "projection_if_needed",
]


def __getattr__(name: str) -> Any:
    if name == "LogMel":
        from perceiver.adapters.log_mel import LogMel

        return LogMel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
