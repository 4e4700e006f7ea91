"""Checkpoints in one file, as `torch.save` and Lightning alone write them: read without running what stands in them, and refused where they lie."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from perceiver.checkpoints.manifest import Damaged


def load_file(file: Path) -> Any:
    """The content of a file: tensors and plain data.

    Raises:
        Damaged: when the file is cut off or garbled, holds anything that would have to be run, or claims more than it has.
    """
    check_sizes(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles in other protocols, which are refused or read all the same
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        told = said(error)
        raise Damaged(f"{file} is damaged, or holds more than weights and plain data: {told}") from error


def said(error: Exception) -> str:
    """What PyTorch says of a file in a line, without its advice on how to run what stands in it."""
    if isinstance(error, KeyError):
        return f"it holds the unknown code {error}"
    lines = str(error).rpartition("WeightsUnpickler error:")[2].partition("Please use")[0].splitlines()
    return next((line.strip() for line in lines if line.strip() and "weights_only" not in line), type(error).__name__)


def check_sizes(file: Path) -> None:
    """Refuses an archive that would become more than it is: PyTorch packs nothing, so what is packed was made to burst.

    Raises:
        Damaged: naming the sizes, from the archive's list alone.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Damaged(f"{file} is damaged: {error}") from error
    claimed, there = sum(entry.file_size for entry in entries), file.stat().st_size
    if claimed > there or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Damaged(f"{file} has {there:,} bytes and claims to hold {claimed:,}: no checkpoint is packed like that, and it is not unpacked")
