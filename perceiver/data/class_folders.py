"""Class folders: datasets in which the name of a folder is the class of the files in it."""

import os
from collections.abc import Sequence
from pathlib import Path


def folders_in(place: Path) -> list[str]:
    """Sorted names of the folders in a folder, hidden ones left out."""
    return [entry.name for entry in visible(place) if entry.is_dir(follow_symlinks=False)]


def files_in(place: Path, what: str, suffixes: Sequence[str]) -> list[str]:
    """Sorted names of the files in the folder of a class, hidden ones left out.

    Args:
        place: the folder.
        what: they are, for messages: "picture", "sound".
        suffixes: that their names may end with, in lower case.

    Raises:
        ValueError: when there is none, or anything else lies there, which would be left out of the dataset without a word.
    """
    entries = visible(place)
    if not entries:
        raise ValueError(f"{place} holds no {what}s: add some, or remove the folder")
    for entry in entries:
        if not entry.is_file(follow_symlinks=False) or not entry.name.lower().endswith(tuple(suffixes)):
            raise ValueError(f"{entry.path} is not a {what} ({', '.join(suffixes)}): a class folder holds nothing else, so move it away")
    return [entry.name for entry in entries]


def visible(place: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, hidden things left out.

    Raises:
        ValueError: when something is a symbolic link, which may lead out of the folder.
    """
    with os.scandir(place) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_symlink():
            raise ValueError(f"{entry.path} is a symbolic link, which may lead out of the dataset: put the files themselves there")
    return found
