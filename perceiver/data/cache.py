"""Cache: rows that are slow to decode are decoded once, and from then on read from memory-mapped files.

A split is two files in a folder: `rows.bin`, the bytes of all rows one after another (`perceiver.data.row_bytes`), and `index.json` with
where each ends, its name, and why it could not be decoded if it could not.
"""

import json
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from perceiver.data.row_bytes import from_bytes, to_bytes
from perceiver.data.rows import BadSample, Row, Rows
from perceiver.data.source import SPLITS, Source, Split

VERSION = 1


class Cached(Source):
    """Another dataset, decoded once into a folder, for all runs that follow and for all their data workers.

    What the other one draws at random (where a long sound is cropped, say) is drawn once, too: leave chance to the augmentation, which
    comes after. The files are as large as the decoded rows: 12 kB for a picture of 64 x 64, 64 kB for a second of sound at 16 kHz. Each
    split is written beside its place and renamed when it is whole. One that holds other rows than the dataset has now is refused;
    files that were changed under the same names are not noticed.

    Args:
        source: the other dataset.
        folder: for the files; one a dataset.
    """

    def __init__(self, source: Source, folder: str | Path) -> None:
        self.source = source
        self.folder = Path(folder)
        self.entries = source.entries
        self.ragged = source.ragged

    @property
    def classes(self) -> Sequence[str]:
        """Those of the other dataset."""
        return self.source.classes

    @property
    def task(self) -> Mapping[str, Any]:
        """That of the other dataset."""
        return self.source.task

    def prepare(self) -> None:
        """Decodes what is not there yet.

        Raises:
            ValueError: when what is there is of another dataset.
        """
        self.source.prepare()
        for split in SPLITS:
            rows = self.source.rows(split)
            folder = self.folder / split
            if not folder.exists():
                write_rows(rows, folder)
            CachedRows(folder).check(rows)

    def rows(self, split: Split) -> Rows:
        """The rows of a split, from the cache.

        Raises:
            FileNotFoundError: when they have not been decoded.
        """
        if not (self.folder / split).is_dir():
            raise FileNotFoundError(f"the cache {self.folder / split} is not there: prepare() decodes the rows into it")
        return CachedRows(self.folder / split)


class CachedRows(Rows):
    """Rows of one split, read from memory-mapped files that all processes share.

    Args:
        folder: that `write_rows` made.

    Raises:
        ValueError: when it was written by another version, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = json.loads((folder / "index.json").read_text())
        if index.get("version") != VERSION:
            raise ValueError(f"{folder} was written by version {index.get('version')} of the cache, and this is version {VERSION}: delete it")
        self.names: list[str] = index["names"]
        self.bad: dict[str, str] = index["bad"]
        self.ends = np.array([0, *index["ends"]], dtype=np.int64)
        size = (folder / "rows.bin").stat().st_size
        if size != self.ends[-1] or len(self.ends) != len(self.names) + 1:
            raise ValueError(f"{folder / 'rows.bin'} has {size} bytes, and its index says {self.ends[-1]}: delete {folder}")

    @cached_property
    def _bytes(self) -> mmap.mmap:
        """The file, mapped when the first row is asked for."""
        with open(self.folder / "rows.bin", "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """That of the row in its dataset."""
        return self.names[index]

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The row as it was decoded.

        Raises:
            BadSample: when it could not be, with the reason of that time.
        """
        name = self.names[index]
        if name in self.bad:
            raise BadSample(name, self.bad[name])
        return from_bytes(self._bytes[self.ends[index] : self.ends[index + 1]], name)

    def check(self, rows: Rows) -> None:
        """Compares the names of the rows with those of a dataset.

        Raises:
            ValueError: when they differ.
        """
        if self.names != [rows.name(i) for i in range(len(rows))]:
            raise ValueError(
                f"the cache {self.folder} holds {len(self)} rows, and not those of the dataset, which has {len(rows)}: "
                "delete it, and they are decoded again"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping: each process makes its own."""
        return {key: value for key, value in vars(self).items() if key != "_bytes"}


def write_rows(rows: Rows, folder: Path) -> None:
    """Decodes rows into a folder, which is there when all of them are, and not before.

    Args:
        rows: in their order; row i gets the generator with seed i.
        folder: that is not there yet.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        part, ends, bad = Path(scratch) / "whole", [], {}
        part.mkdir()
        with open(part / "rows.bin", "wb") as file:
            for index in range(len(rows)):
                try:
                    file.write(to_bytes(rows.row(index, np.random.default_rng(index)), rows.name(index)))
                except BadSample as error:
                    bad[rows.name(index)] = error.reason
                ends.append(file.tell())
        names = [rows.name(index) for index in range(len(rows))]
        (part / "index.json").write_text(json.dumps({"version": VERSION, "names": names, "ends": ends, "bad": bad}))
        try:
            os.replace(part, folder)
        except OSError:
            if not folder.is_dir():
                raise  # and if it is, another process was faster, and has decoded the same
