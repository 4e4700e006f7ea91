"""Manifests: a table with one sample a row and one modality a column, where any cell may be empty. The form for data of your own."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perceiver.data.columns import Cell, Column
from perceiver.data.limits import Limits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import SPLITS, Source, Split
from perceiver.data.splits import check_shares, split_of
from perceiver.data.table import Line, check_there, named, number_classes, read_table, shown, wrong

LIMITS = Limits()
TAKEN = ("target", "target_mask", "dataset")  # what a batch says of a row as a whole


class Sample(NamedTuple):
    """A row of a manifest.

    Args:
        line: where it stands, from 1.
        id: what tells it from the others.
        name: for messages.
        split: that it belongs to.
        label: the name of its class; None when it has none.
        cells: those that are not empty, by the row's entries.
        files: that the cells name.
    """

    line: int
    id: str
    name: str
    split: Split
    label: str | None
    cells: Mapping[str, Cell]
    files: Sequence[Path]


class ManifestRows(Rows):
    """Rows of one split, decoded when they are asked for.

    Args:
        samples: one a row.
        columns: how cells are read, by the row's entries.
        classes: numbers of the classes by name.
        limits: of what is decoded.
    """

    def __init__(self, samples: Sequence[Sample], columns: Mapping[str, Column], classes: Mapping[str, int], limits: Limits) -> None:
        self.samples = samples
        self.columns = columns
        self.classes = classes
        self.limits = limits

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        """The table and the line, and the id if the table has ids."""
        return self.samples[index].name

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The modalities that the row has, and `target`, the number of its class, if it has a label."""
        sample = self.samples[index]
        row: Row = {entry: self.columns[entry].read(cell, sample.split, self.limits, draw) for entry, cell in sample.cells.items()}
        return row if sample.label is None else row | {"target": self.classes[sample.label]}


class Manifest(Source):
    """Samples that a table lists, each with any of the modalities: `.csv`, `.jsonl` or `.parquet`, see `perceiver.data.table`.

        id,image,audio,text,label
        1,cats/1.png,,a black cat,cat
        2,,dogs/2.wav,,dog
        3,cats/3.png,cats/3.wav,purrs,

    An empty cell says that the sample lacks the modality; it takes at least one. Paths are relative to the table's folder. Three columns have
    a meaning of their own, where they are there: `label`, the class, a word or a whole number, which may be empty, too; `split`, one of train,
    val and test; and `id`, by which the sample is named in messages, each one once. Without `split`, a keyed hash of the id says it, and
    without `id` that of the line's number: then lines that are put in between change the split of those behind.

    Args:
        file: the table.
        columns: how the cells of a column are read, by the entries of a row, which are the names that the adapters read.
        classes: names of the classes in the order of the target's numbers; the sorted labels of the training split when not given.
        val_share: of the samples, where the table has no splits.
        test_share: likewise.
        limits: what a file may claim before it is decoded.

    Raises:
        ValueError: when there is no column, a name is taken, a class comes twice, or a number is out of range.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        columns: Mapping[str, Column],
        classes: Sequence[str] = (),
        val_share: float = 0.1,
        test_share: float = 0.1,
        limits: Limits = LIMITS,
    ) -> None:
        if not columns:
            raise ValueError("columns={}: name at least one modality, with the column that it is in")
        if taken := [entry for entry in columns if entry in TAKEN]:
            raise ValueError(f"a modality cannot be called {taken[0]!r}, which means something else in a batch: give it another name, and `column`")
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes={list(classes)}: one of them comes twice")
        check_shares(val_share, test_share)
        self.file = Path(file)
        self.columns = dict(columns)
        self.given_classes = tuple(classes)
        self.val_share = val_share
        self.test_share = test_share
        self.limits = limits
        self.entries = tuple(columns)
        self.ragged = tuple(entry for entry, column in columns.items() if column.ragged)

    @property
    def classes(self) -> Sequence[str]:
        """Those that were given, or the sorted labels of the training split; empty when there are no labels."""
        labels = (sample.label for sample in self.samples if sample.split == "train" and sample.label is not None)
        return self.given_classes or tuple(number_classes(labels))

    def rows(self, split: Split) -> ManifestRows:
        """The samples of a split, in the order of the table.

        Raises:
            FileNotFoundError: when the table, or a file that it names, is not there.
            ValueError: when something is wrong with the table, the split is empty, or a modality is missing in all of it.
        """
        samples = [sample for sample in self.samples if sample.split == split]
        if not samples:
            shares = f"val_share={self.val_share} and test_share={self.test_share} where it has no column 'split'"
            raise ValueError(f"{self.file} has no sample of the split {split!r}: add some, or change what it gets ({shares})")
        for entry in self.entries:
            # The model has an adapter for it all the same, which nothing would ever train, or evaluate.
            if not any(entry in sample.cells for sample in samples):
                raise ValueError(
                    f"{self.file} has no {entry!r} in any of the {len(samples)} samples of the split {split!r}: add some, or take the column out"
                )
        check_there(file for sample in samples for file in sample.files)
        return ManifestRows(samples, self.columns, {name: number for number, name in enumerate(self.classes)}, self.limits)

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """All that the table lists, checked; read once.

        Raises:
            FileNotFoundError: when there is no such table.
            ValueError: naming the line that is wrong.
        """
        lines = read_table(self.file, required=[column.column or entry for entry, column in self.columns.items()])
        columns = {column for line in lines for column in line.cells}
        samples = [self._sample(line, columns) for line in lines]
        seen: dict[str, int] = {}
        for sample in samples:
            if sample.id in seen:
                wrong(
                    self.file,
                    sample.line,
                    f"repeats the id {shown(sample.id)} of line {seen[sample.id]}: a sample comes once, so give it another one",
                )
            seen[sample.id] = sample.line
        classes = self.given_classes or {sample.label for sample in samples if sample.split == "train"}
        for sample in samples:
            if sample.label is not None and sample.label not in classes:
                known = "none of the classes" if self.given_classes else "the label of no training sample"
                wrong(self.file, sample.line, f"has the label {shown(sample.label)}, {known}: correct it, or give all `classes`")
        return samples

    def _sample(self, line: Line, columns: set[str]) -> Sample:
        """A line of the table, which has certain columns."""
        id, place = self._cell(line, "id") if "id" in columns else str(line.number), f"{self.file.name}, line {line.number}"
        if id is None:
            wrong(self.file, line.number, "has no id, and the table has a column for it: give it one")
        name = f"{named(id)} ({place})" if "id" in columns else place
        split = self._split(line) if "split" in columns else split_of(id, self.val_share, self.test_share)
        contents = {entry: self._cell(line, column.column or entry) for entry, column in self.columns.items()}
        cells = {entry: Cell(content, self.file.parent, name) for entry, content in contents.items() if content is not None}
        if not cells:
            wrong(self.file, line.number, f"has none of {', '.join(self.entries)}: a sample needs at least one of them")
        files = [file for entry, cell in cells.items() if (file := self.columns[entry].check(cell)) is not None]
        return Sample(line.number, id, name, split, self._cell(line, "label"), cells, files)

    def _split(self, line: Line) -> Split:
        """The split that a line names."""
        for split in SPLITS:
            if line.cells.get("split") == split:
                return split
        return wrong(self.file, line.number, f"has {shown(line.cells.get('split'))} in its column 'split': write {', '.join(SPLITS)}")

    def _cell(self, line: Line, column: str) -> str | None:
        """The text of a cell; None when it is empty."""
        cell = line.cells.get(column)
        if cell is None or cell == "":
            return None
        if isinstance(cell, bool) or not isinstance(cell, str | int):
            wrong(self.file, line.number, f"has {shown(cell)} in its column {column!r}: write words, a path, or a whole number")
        return str(cell)
