"""Folders of pictures: the name of a folder is the class of the pictures in it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from perceiver.data.image_file import MODES, fit, read_picture
from perceiver.data.limits import Limits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import SPLITS, Source, Split, not_found

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
LIMITS = Limits()


class PictureFiles(Rows):
    """Pictures that are decoded when their row is asked for.

    Args:
        root: the folder that the files' paths are relative to.
        files: a path a row.
        targets: the number of each row's class.
        entry: the picture's name in a row.
        size: rows and columns of pixels.
        channels: 1 for grey, 3 for colour.
        limits: what a file may claim.
    """

    def __init__(
        self, root: Path, files: Sequence[str], targets: Sequence[int], *, entry: str, size: Sequence[int], channels: int, limits: Limits
    ) -> None:
        self.root = root
        self.files = files
        self.targets = targets
        self.entry = entry
        self.size = tuple(size)
        self.channels = channels
        self.limits = limits

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The file's path below the root."""
        return self.files[index]

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The picture, (c, y, x) of bytes, and its class."""
        image = read_picture(self.name(index), self.root / self.files[index], self.channels, self.limits)
        return {self.entry: fit(image, self.size), "target": self.targets[index]}


class ImageFolder(Source):
    """Pictures in one folder a class, of your own or of any public dataset in this form.

    The folders lie side by side (`root/cat/1.jpg`), or below one of their split (`root/train/cat/1.jpg`): that is how it is read when no
    other folder than `train`, `val` and `test` lies in the root. Classes are numbered in the order of their sorted names.

    Side by side, a picture's split follows from a keyed hash of its path below the root. So pictures that are added later leave the split
    of the others as it is; one that is renamed may change sides.

    Each picture is brought to one size: the largest centred part with its aspect, resized. `perceiver.data.image_file` says how
    transparency, depth and orientation are treated. Hidden files, and files beside the folders of the classes, are not looked at.

    Args:
        root: the folder; it alone may be a symbolic link.
        size: rows and columns of pixels.
        entry: the picture's name in a row.
        channels: 1 for grey, 3 for colour.
        limits: what a file may claim before it is decoded.
        val_share: of the pictures of each class, when the folders lie side by side.
        test_share: likewise.
        seed: another seed, another split.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        size: tuple[int, int],
        entry: str = "image",
        channels: int = 3,
        limits: Limits = LIMITS,
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"size={tuple(size)}: give at least 1 row and 1 column of pixels")
        if channels not in MODES:
            raise ValueError(f"channels={channels}: give 1 for grey or 3 for colour")
        if min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise ValueError(f"val_share={val_share} and test_share={test_share}: neither below 0, and together below 1")
        self.root = Path(root)
        self.size = size
        self.entries = (entry,)
        self.channels = channels
        self.limits = limits
        self.val_share = val_share
        self.test_share = test_share
        self.seed = seed

    @property
    def classes(self) -> Sequence[str]:
        """Sorted names of the folders."""
        return sorted(self.listing["train"])

    def rows(self, split: Split) -> PictureFiles:
        """The pictures of a split, by class and path."""
        by_class = self.listing.get(split, {})
        if not any(by_class.values()):
            shares = f"side by side, val_share={self.val_share} and test_share={self.test_share} say what each split gets"
            raise ValueError(f"{self.root} has no pictures of the split {split!r}: put them into {self.root / split}; where classes lie {shares}")
        found = [(file, target) for target, name in enumerate(self.classes) for file in by_class.get(name, ())]
        files, targets = (list(column) for column in zip(*found, strict=True))
        return PictureFiles(self.root, files, targets, entry=self.entries[0], size=self.size, channels=self.channels, limits=self.limits)

    @cached_property
    def listing(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """Paths below the root, by split and class.

        Raises:
            FileNotFoundError: when there is no such folder.
            ValueError: when it holds no pictures, a link, or what is neither a picture nor a folder of a class.
        """
        if not self.root.is_dir():
            raise not_found("the folder of pictures", [self.root])
        names = folders_in(self.root)
        if names and set(names) <= set(SPLITS):
            listing = {split: pictures_by_class(self.root, f"{split}/") for split in names}
        else:
            listing = self.drawn(pictures_by_class(self.root, ""))
        self.check(listing)
        return listing

    def drawn(self, by_class: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        """The files of each split and class."""
        bounds = {"test": self.test_share, "val": self.test_share + self.val_share, "train": 1.0}
        listing: dict[str, dict[str, list[str]]] = {split: {name: [] for name in by_class} for split in bounds}
        for name, files in by_class.items():
            for file in files:
                place = place_of(file, self.seed)
                listing[next(split for split, bound in bounds.items() if place < bound)][name].append(file)
        return listing

    def check(self, listing: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Every class must be there to be learned.

        Raises:
            ValueError: naming one that is not.
        """
        trained = {name for name, files in listing.get("train", {}).items() if files}
        if missing := sorted({name for by_class in listing.values() for name in by_class} - trained):
            raise ValueError(f"{self.root} has no pictures of the class {missing[0]!r} to train on: add some, or take its folders out")


def place_of(path: str, seed: int) -> float:
    """Where a path falls between 0 and 1, by a keyed hash: the same on every machine, whatever other files there are."""
    digest = hashlib.blake2b(os.fsencode(path), key=str(seed).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def pictures_by_class(root: Path, below: str) -> dict[str, list[str]]:
    """Paths of pictures relative to the root, of each class folder in `root/below`.

    Raises:
        ValueError: when there is no class, a class is empty, or it holds something else than pictures.
    """
    names = folders_in(root / below)
    if not names:
        raise ValueError(f"{root / below} holds no folder: put the pictures into one folder a class")
    found = {name: [f"{below}{name}/{file}" for file in pictures_in(root / below / name)] for name in names}
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{root / below / empty[0]} holds no pictures: add some, or remove the folder")
    return found


def folders_in(place: Path) -> list[str]:
    """Sorted names of the folders in a folder."""
    return [entry.name for entry in visible(place) if entry.is_dir(follow_symlinks=False)]


def pictures_in(place: Path) -> list[str]:
    """Sorted names of the pictures in a folder.

    Raises:
        ValueError: when anything else lies there, which would be left out of the dataset without a word.
    """
    entries = visible(place)
    for entry in entries:
        if not entry.is_file(follow_symlinks=False) or not entry.name.lower().endswith(SUFFIXES):
            raise ValueError(f"{entry.path} is not a picture ({', '.join(SUFFIXES)}): a class folder holds nothing else, so move it away")
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
