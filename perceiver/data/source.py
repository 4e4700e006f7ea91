"""Source: a dataset on disk, with its splits, and where its files are looked for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from perceiver.data.rows import Rows

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
PLACES = (Path("data"), Path("../shared/data"), Path("../shared/data/text"))  # below them, a folder a dataset


class Source(ABC):
    """A dataset: what its rows hold, what they are for, and its splits.

    Attributes:
        entries: raw entries that a row may hold, by the names that the adapters read.
        ragged: those of them whose last axis varies from row to row.
    """

    entries: tuple[str, ...]
    ragged: tuple[str, ...] = ()

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of the target's numbers; empty when there are none."""
        return ()

    @property
    def task(self) -> Mapping[str, Any]:
        """What a model learns here, as plain data: `task` names it, and the rest are its settings. See `perceiver.tasks.TASKS`.

        Raises:
            ValueError: when there are no classes.
        """
        if not self.classes:
            raise ValueError(f"{type(self).__name__} has no classes to learn: give its rows labels")
        return {"task": "classification", "num_classes": len(self.classes)}

    def prepare(self) -> None:  # noqa: B027 - most datasets of one's own have nothing to fetch
        """Fetches and verifies what is not there yet. One process calls it, before the others read.

        Raises:
            OSError: saying where the files were looked for, when they are not there and cannot be fetched.
        """

    @abstractmethod
    def rows(self, split: Split) -> Rows:
        """The rows of a split.

        Raises:
            FileNotFoundError: saying where the files were looked for.
            ValueError: when the split is empty, or the dataset does not have it.
        """


def find_folder(name: str, root: str | Path | None, files: Sequence[str]) -> Path | None:
    """The first folder that holds all of a dataset's files.

    Args:
        name: of the dataset's folder below each of `PLACES`.
        root: the folder itself, when the user gave one; then no other is looked at.
        files: patterns, relative to the folder, each of which must match something.
    """
    for folder in places(name, root):
        if folder.is_dir() and all(next(folder.glob(pattern), None) is not None for pattern in files):
            return folder
    return None


def places(name: str, root: str | Path | None) -> list[Path]:
    """The folders that a dataset is looked for in, best first. What is fetched goes to the first."""
    return [Path(root)] if root is not None else [place / name for place in PLACES]


def not_found(what: str, looked_in: Sequence[Path], why: str = "") -> FileNotFoundError:
    """The error of a dataset that is not there: says what, where it was looked for, and what to do."""
    looked = ", ".join(str(place.resolve()) for place in looked_in)
    return FileNotFoundError(f"{what} not found; looked in {looked}{f'; {why}' if why else ''}. Put the files into the first of them, or give `root`")
