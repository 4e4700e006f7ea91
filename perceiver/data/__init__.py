"""Data: datasets of each modality, mixtures of them, and the batch that everything meets in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceiver.data.audio_folder import AudioFolder
    from perceiver.data.audio_manifest import AudioManifest
    from perceiver.data.augment import Augment, JitterSound, Missing, MovePicture
    from perceiver.data.batch import collate
    from perceiver.data.cache import Cached
    from perceiver.data.clips import VideoClips
    from perceiver.data.columns import AudioColumn, Column, ImageColumn, TextColumn, VideoColumn, VideoSoundColumn
    from perceiver.data.esc50 import ESC50
    from perceiver.data.image import Transforms, pixel_statistics
    from perceiver.data.image_folder import ImageFolder
    from perceiver.data.image_sets import CIFAR10, CIFAR100, MNIST, FashionMNIST
    from perceiver.data.limits import Limits
    from perceiver.data.manifest import Manifest
    from perceiver.data.masking import Masking, Spans, WholeWords
    from perceiver.data.mixed import MixedDataModule, Stream
    from perceiver.data.pairs import DigitSums
    from perceiver.data.quickstart import Quickstart
    from perceiver.data.rows import BadSample, Rows
    from perceiver.data.source import Source
    from perceiver.data.speech import FreeSpokenDigits, SpeechCommands
    from perceiver.data.text import TextFiles, TinyShakespeare
    from perceiver.data.text_noise import ByteNoise, WordDropout
    from perceiver.data.text_table import Banking77, TextTable
    from perceiver.data.video import Frames, Sound

# A dataset is imported when it is asked for: together they need much that one run does not.
PLACE = {
    "audio_folder": ("AudioFolder",),
    "audio_manifest": ("AudioManifest",),
    "augment": ("Augment", "JitterSound", "Missing", "MovePicture"),
    "batch": ("collate",),
    "cache": ("Cached",),
    "clips": ("VideoClips",),
    "columns": ("AudioColumn", "Column", "ImageColumn", "TextColumn", "VideoColumn", "VideoSoundColumn"),
    "esc50": ("ESC50",),
    "image": ("Transforms", "pixel_statistics"),
    "image_folder": ("ImageFolder",),
    "image_sets": ("CIFAR10", "CIFAR100", "FashionMNIST", "MNIST"),
    "limits": ("Limits",),
    "manifest": ("Manifest",),
    "masking": ("Masking", "Spans", "WholeWords"),
    "mixed": ("MixedDataModule", "Stream"),
    "pairs": ("DigitSums",),
    "quickstart": ("Quickstart",),
    "rows": ("BadSample", "Rows"),
    "source": ("Source",),
    "speech": ("FreeSpokenDigits", "SpeechCommands"),
    "text": ("TextFiles", "TinyShakespeare"),
    "text_noise": ("ByteNoise", "WordDropout"),
    "text_table": ("Banking77", "TextTable"),
    "video": ("Frames", "Sound"),
}
MODULE_OF = {name: module for module, names in PLACE.items() for name in names}

__all__ = [
    "AudioColumn",
    "AudioFolder",
    "AudioManifest",
    "Augment",
    "BadSample",
    "Banking77",
    "ByteNoise",
    "Cached",
    "CIFAR10",
    "CIFAR100",
    "Column",
    "DigitSums",
    "ESC50",
    "FashionMNIST",
    "Frames",
    "FreeSpokenDigits",
    "ImageColumn",
    "ImageFolder",
    "JitterSound",
    "Limits",
    "MNIST",
    "Manifest",
    "Masking",
    "Missing",
    "MixedDataModule",
    "MovePicture",
    "Quickstart",
    "Rows",
    "Sound",
    "Source",
    "Spans",
    "SpeechCommands",
    "Stream",
    "TextColumn",
    "TextFiles",
    "TextTable",
    "TinyShakespeare",
    "Transforms",
    "VideoClips",
    "VideoColumn",
    "VideoSoundColumn",
    "WholeWords",
    "WordDropout",
    "collate",
    "pixel_statistics",
]


def __getattr__(name: str) -> Any:
    if name in MODULE_OF:
        return getattr(import_module(f"perceiver.data.{MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
