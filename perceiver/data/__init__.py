"""Data: datasets of each modality, mixtures of them, and the batch that everything meets in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceiver.data.audio.esc50 import ESC50
    from perceiver.data.audio.folder import AudioFolder
    from perceiver.data.audio.manifest import AudioManifest
    from perceiver.data.audio.speech import FreeSpokenDigits, SpeechCommands
    from perceiver.data.augment import Augment, JitterSound, Missing, MovePicture
    from perceiver.data.batch import collate
    from perceiver.data.cache import Cached
    from perceiver.data.columns import AudioColumn, Column, ImageColumn, TextColumn, VideoColumn, VideoSoundColumn
    from perceiver.data.image.folder import ImageFolder
    from perceiver.data.image.moved import MovedPictures
    from perceiver.data.image.sets import CIFAR10, CIFAR100, MNIST, FashionMNIST
    from perceiver.data.image.transforms import Transforms, pixel_statistics
    from perceiver.data.limits import Limits
    from perceiver.data.manifest import Manifest
    from perceiver.data.mixture.datamodule import MixedDataModule, Stream
    from perceiver.data.mixture.sharding import write_shards
    from perceiver.data.mixture.shards import Shards
    from perceiver.data.mixture.streaming import StreamingMixture
    from perceiver.data.pairs import DigitSums
    from perceiver.data.questions import QuickstartQuestions
    from perceiver.data.quickstart import Quickstart
    from perceiver.data.rows import BadSample, Rows
    from perceiver.data.source import Source, Split
    from perceiver.data.text.files import TextFiles, TinyShakespeare
    from perceiver.data.text.masking import Masking, Spans, WholeWords
    from perceiver.data.text.noise import ByteNoise, WordDropout
    from perceiver.data.text.table import Banking77, TextTable
    from perceiver.data.video.clips import VideoClips
    from perceiver.data.video.file import Frames, Sound
    from perceiver.data.video.rewritten import RewrittenClips
    from perceiver.data.video.same import SameVideos

# A dataset is imported when it is asked for: together they need much that one run does not.
PLACE = {
    "audio.esc50": ("ESC50",),
    "audio.folder": ("AudioFolder",),
    "audio.manifest": ("AudioManifest",),
    "audio.speech": ("FreeSpokenDigits", "SpeechCommands"),
    "augment": ("Augment", "JitterSound", "Missing", "MovePicture"),
    "batch": ("collate",),
    "cache": ("Cached",),
    "columns": ("AudioColumn", "Column", "ImageColumn", "TextColumn", "VideoColumn", "VideoSoundColumn"),
    "image.folder": ("ImageFolder",),
    "image.moved": ("MovedPictures",),
    "image.sets": ("CIFAR10", "CIFAR100", "FashionMNIST", "MNIST"),
    "image.transforms": ("Transforms", "pixel_statistics"),
    "limits": ("Limits",),
    "manifest": ("Manifest",),
    "mixture.datamodule": ("MixedDataModule", "Stream"),
    "mixture.sharding": ("write_shards",),
    "mixture.shards": ("Shards",),
    "mixture.streaming": ("StreamingMixture",),
    "pairs": ("DigitSums",),
    "questions": ("QuickstartQuestions",),
    "quickstart": ("Quickstart",),
    "rows": ("BadSample", "Rows"),
    "source": ("Source", "Split"),
    "text.files": ("TextFiles", "TinyShakespeare"),
    "text.masking": ("Masking", "Spans", "WholeWords"),
    "text.noise": ("ByteNoise", "WordDropout"),
    "text.table": ("Banking77", "TextTable"),
    "video.clips": ("VideoClips",),
    "video.rewritten": ("RewrittenClips",),
    "video.same": ("SameVideos",),
    "video.file": ("Frames", "Sound"),
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
    "CIFAR10",
    "CIFAR100",
    "Cached",
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
    "MovedPictures",
    "Quickstart",
    "QuickstartQuestions",
    "RewrittenClips",
    "Rows",
    "SameVideos",
    "Shards",
    "Sound",
    "Source",
    "Spans",
    "SpeechCommands",
    "Split",
    "Stream",
    "StreamingMixture",
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
    "write_shards",
]


def __getattr__(name: str) -> Any:
    if name in MODULE_OF:
        return getattr(import_module(f"perceiver.data.{MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
