"""Labelled texts in a table, one text a row, for classification. Each is encoded once, and kept in memory as its bytes.

Letters: l bytes of a text.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from perceiver.data.download import fetch
from perceiver.data.rows import Row, Rows
from perceiver.data.source import SPLITS, Source, Split, find_folder, not_found, places
from perceiver.data.splits import check_shares, split_of
from perceiver.data.table import number_classes, read_table, shown, wrong
from perceiver.tokenizer import NUM_SPECIALS

Cut = Callable[[bytes, int], bytes]


def keep_start(text: bytes, max_bytes: int) -> bytes:
    """The first bytes of a text. The last character may be torn."""
    return text[:max_bytes]


def keep_both_ends(text: bytes, max_bytes: int) -> bytes:
    """The first half of the bytes from the text's start, the rest from its end."""
    start = max_bytes - max_bytes // 2
    return text[:start] + text[len(text) - (max_bytes - start) :]


class Text(NamedTuple):
    """A text of a table.

    Args:
        line: where it stands, from 1.
        data: its bytes.
        label: the name of its class, empty when the table has none.
    """

    line: int
    data: bytes
    label: str


class Texts(Rows):
    """Some texts of a table.

    Args:
        table: the file's name.
        texts: at least one.
        entry: what a row calls the ids.
        classes: numbers of the classes by name; empty when there is nothing to learn.

    Raises:
        ValueError: when a label is not among the classes.
    """

    def __init__(self, table: str, texts: Sequence[Text], entry: str, classes: Mapping[str, int]) -> None:
        if unknown := [text for text in texts if classes and text.label not in classes]:
            raise ValueError(f"{table}, line {unknown[0].line}: {shown(unknown[0].label)} is none of the {len(classes)} classes: correct it")
        self.table = table
        self.entry = entry
        self.lines = np.array([text.line for text in texts])
        self.targets = np.array([classes[text.label] for text in texts]) if classes else None
        self._data = np.frombuffer(b"".join(text.data for text in texts), np.uint8)
        self._stops = np.cumsum([0, *(len(text.data) for text in texts)])

    def __len__(self) -> int:
        return len(self.lines)

    def name(self, index: int) -> str:
        """The table and the line."""
        return f"{self.table}, line {self.lines[index]}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The ids (l,) of a text, int64, and the number of its class."""
        ids = self._data[self._stops[index] : self._stops[index + 1]] + np.int64(NUM_SPECIALS)
        row: Row = {self.entry: torch.from_numpy(ids)}
        return row if self.targets is None else row | {"target": int(self.targets[index])}


class TextTable(Source):
    """Texts with labels out of CSV, JSON Lines or Parquet files (see `perceiver.data.table`).

    A split that has no file of its own is a share of the training file, by a hash of the text in which case and whitespace do not count:
    a text may come more than once, and all its copies are in the same split. Classes are the labels of all files, sorted by name.

    Args:
        file: the table; or several by split, with one for `train`.
        entry: what rows call the ids.
        text: column of the texts.
        label: column of the labels, words or whole numbers; None when there are none.
        max_bytes: the longest text, in bytes; at most what the adapter takes.
        cut: what shortens longer ones, such as `perceiver.data.text.table.keep_start`; without, they are refused.
        val_share: share of the training file for validation, where that has no file.
        test_share: share of the training file for the test, where that has no file.

    Raises:
        ValueError: when a split is unknown, or a number out of range.
    """

    def __init__(
        self,
        file: str | Path | Mapping[Split, str | Path],
        *,
        entry: str = "text",
        text: str = "text",
        label: str | None = "label",
        max_bytes: int = 512,
        cut: Cut | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
    ) -> None:
        files: Mapping[Split, str | Path] = {"train": file} if isinstance(file, str | Path) else file
        if not files or not set(files) <= set(SPLITS):
            raise ValueError(f"file={dict(files)}: give one table, or tables by split out of {', '.join(SPLITS)}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes}: give at least 1")
        check_shares(val_share, test_share)
        self.file: dict[Split, Path] = {split: Path(path) for split, path in files.items()}
        self.text = text
        self.label = label
        self.max_bytes = max_bytes
        self.cut = cut
        self.shares = {"val": val_share, "test": test_share}
        self.entries = self.ragged = (entry,)
        self._texts: dict[Path, list[Text]] = {}

    @property
    def classes(self) -> Sequence[str]:
        """The labels of all files, sorted; empty when the tables have none.

        Raises:
            FileNotFoundError: when a file is not there.
        """
        return tuple(number_classes(text.label for file in self._files().values() for text in self._read(file))) if self.label else ()

    def rows(self, split: Split) -> Texts:
        """The texts of a split, in the order of the table.

        Raises:
            FileNotFoundError: when a file is not there.
            ValueError: when a column is missing, the split is empty, or a line holds no text, no label, or a text that is too long.
        """
        files = self._files()
        file = files.get(split) or files.get("train")
        if file is None:
            raise ValueError(f"there is no table for the {split} split, and none for train that it could be a share of: give one")
        texts = self._read(file)
        if split not in files or split == "train":
            val, test = (0.0 if other in files else self.shares[other] for other in ("val", "test"))
            texts = [text for text in texts if split_of(key(text.data), val, test) == split]
        if not texts:
            raise ValueError(f"the {split} split of {file} has no text: give it a table of its own, or raise its share")
        return Texts(file.name, texts, self.entries[0], {name: number for number, name in enumerate(self.classes)})

    def _files(self) -> Mapping[Split, Path]:
        """The tables by split."""
        return self.file

    def _read(self, file: Path) -> list[Text]:
        """The texts of a table; read once."""
        if file not in self._texts:
            columns = [self.text, self.label] if self.label else [self.text]
            texts = [self._check(file, line.number, line.cells) for line in read_table(file, required=columns)]
            self._texts[file] = self._shorten(file, texts)
        return self._texts[file]

    def _check(self, file: Path, line: int, cells: Mapping[str, Any]) -> Text:
        text, label = cells[self.text], cells[self.label] if self.label else ""
        if not text:
            wrong(file, line, f"has no text in its column {self.text!r}: a text needs at least one byte, so leave the line out")
        if not isinstance(text, str):
            wrong(file, line, f"has {shown(text)} in its column {self.text!r}: write it as a string")
        if self.label and (label is None or label == "" or isinstance(label, bool) or not isinstance(label, str | int)):
            wrong(file, line, f"has {shown(label)} in its column {self.label!r}: a label is a word or a whole number")
        return Text(line, text.encode("utf-8", "surrogatepass"), str(label))

    def _shorten(self, file: Path, texts: list[Text]) -> list[Text]:
        if self.cut is not None:
            cut = self.cut
            return [text._replace(data=cut(text.data, self.max_bytes)) if len(text.data) > self.max_bytes else text for text in texts]
        if long := [text for text in texts if len(text.data) > self.max_bytes]:
            raise ValueError(
                f"{len(long)} of {len(texts)} texts of {file} are longer than max_bytes={self.max_bytes}, the first one in line {long[0].line}, "
                f"the longest with {max(len(text.data) for text in long)} bytes: raise max_bytes and the adapter's max_length, "
                "or give cut=perceiver.data.text.table.keep_start"
            )
        return texts


def key(text: bytes) -> str:
    """What a text's split depends on: neither case nor whitespace, so that copies stay together."""
    return " ".join(text.decode("utf-8", "replace").casefold().split())


BANKING = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/"
BANKING_SHA256 = {
    "train.csv": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    "test.csv": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
    "categories.json": "53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63",
}
BANKING_TABLES: dict[Split, str] = {"train": "train.csv", "test": "test.csv"}
NUM_INTENTS = 77


class Banking77(TextTable):
    """Questions to a bank in English, with one of 77 intents each (Casanueva et al. 2020).

    10,003 questions of at most 433 bytes for training, of which a tenth, fixed by a hash of the question, is for validation; 3,080 for
    the test, 40 of each intent. Classes are in the order of the official `categories.json`.

    Args:
        root: the folder with the official files; the usual places when not given, see `perceiver.data.source.PLACES`.
        entry: what rows call the ids.
        max_bytes: the longest question, in bytes; at most what the adapter takes.
        cut: what shortens longer ones; without, they are refused.
    """

    def __init__(self, root: str | Path | None = None, *, entry: str = "text", max_bytes: int = 512, cut: Cut | None = None) -> None:
        files: dict[Split, str | Path] = {split: places("banking77", root)[0] / name for split, name in BANKING_TABLES.items()}
        super().__init__(files, entry=entry, label="category", max_bytes=max_bytes, cut=cut, val_share=0.1)
        self.root = root

    @property
    def classes(self) -> Sequence[str]:
        """The official names of the intents.

        Raises:
            FileNotFoundError: when the dataset is not there.
        """
        return tuple(json.loads((self._folder() / "categories.json").read_text()))

    @property
    def task(self) -> Mapping[str, Any]:
        """77 classes, whether the files are there yet or not."""
        return {"task": "classification", "num_classes": NUM_INTENTS}

    def prepare(self) -> None:
        """Fetches the files, or verifies those that are there."""
        folder = find_folder("banking77", self.root, list(BANKING_SHA256)) or places("banking77", self.root)[0]
        for name, sha256 in BANKING_SHA256.items():
            fetch("banking77", [BANKING + name], folder / name, sha256)

    def _files(self) -> Mapping[Split, Path]:
        return {split: self._folder() / name for split, name in BANKING_TABLES.items()}

    def _folder(self) -> Path:
        folder = find_folder("banking77", self.root, list(BANKING_SHA256))
        if folder is None:
            raise not_found(f"banking77: {', '.join(BANKING_SHA256)}", places("banking77", self.root))
        return folder
