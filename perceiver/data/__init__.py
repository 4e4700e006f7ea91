"""Data: datasets of each modality, mixtures of them, and the batch that everything meets in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceiver.data.augment import Augment, JitterSound, Missing, MovePicture
    from perceiver.data.batch import collate
    from perceiver.data.limits import Limits
    from perceiver.data.mixed import MixedDataModule, Stream
    from perceiver.data.quickstart import Quickstart
    from perceiver.data.rows import BadSample, Rows
    from perceiver.data.source import Source

# A dataset is imported when it is asked for: together they need much that one run does not.
PLACE = {
    "augment": ("Augment", "JitterSound", "Missing", "MovePicture"),
    "batch": ("collate",),
    "limits": ("Limits",),
    "mixed": ("MixedDataModule", "Stream"),
    "quickstart": ("Quickstart",),
    "rows": ("BadSample", "Rows"),
    "source": ("Source",),
}
MODULE_OF = {name: module for module, names in PLACE.items() for name in names}

__all__ = [
    "Augment",
    "BadSample",
    "JitterSound",
    "Limits",
    "Missing",
    "MixedDataModule",
    "MovePicture",
    "Quickstart",
    "Rows",
    "Source",
    "Stream",
    "collate",
]


def __getattr__(name: str) -> Any:
    if name in MODULE_OF:
        return getattr(import_module(f"perceiver.data.{MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
