"""Folders of pictures: the name of a folder is the class of the pictures in it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from perceiver.data.class_folders import files_in, folders_in
from perceiver.data.image.file import MODES, fit, read_picture
from perceiver.data.limits import Limits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import SPLITS, Source, Split, not_found
from perceiver.data.splits import check_shares, split_of

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

    Each picture is brought to one size: the largest centred part with its aspect, resized. `perceiver.data.image.file` says how
    transparency, depth and orientation are treated. Hidden files, and files beside the folders of the classes, are not looked at.

    Args:
        root: the folder; it alone may be a symbolic link.
        size: rows and columns of pixels.
        entry: the picture's name in a row.
        channels: 1 for grey, 3 for colour.
        limits: what a file may claim before it is decoded.
        val_share: of the pictures of each class, when the folders lie side by side.
        test_share: likewise.

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
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"size={tuple(size)}: give at least 1 row and 1 column of pixels")
        if channels not in MODES:
            raise ValueError(f"channels={channels}: give 1 for grey or 3 for colour")
        check_shares(val_share, test_share)
        self.root = Path(root)
        self.size = size
        self.entries = (entry,)
        self.channels = channels
        self.limits = limits
        self.val_share = val_share
        self.test_share = test_share

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
        listing: dict[str, dict[str, list[str]]] = {split: {name: [] for name in by_class} for split in SPLITS}
        for name, files in by_class.items():
            for file in files:
                listing[split_of(file, self.val_share, self.test_share)][name].append(file)
        return listing

    def check(self, listing: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Every class must be there to be learned.

        Raises:
            ValueError: naming one that is not.
        """
        trained = {name for name, files in listing.get("train", {}).items() if files}
        if missing := sorted({name for by_class in listing.values() for name in by_class} - trained):
            raise ValueError(f"{self.root} has no pictures of the class {missing[0]!r} to train on: add some, or take its folders out")


def pictures_by_class(root: Path, below: str) -> dict[str, list[str]]:
    """Paths of pictures relative to the root, of each class folder in `root/below`.

    Raises:
        ValueError: when there is no class, a class is empty, or it holds something else than pictures.
    """
    names = folders_in(root / below)
    if not names:
        raise ValueError(f"{root / below} holds no folder: put the pictures into one folder a class")
    found = {name: [f"{below}{name}/{file}" for file in files_in(root / below / name, "picture", SUFFIXES)] for name in names}
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{root / below / empty[0]} holds no pictures: add some, or remove the folder")
    return found
