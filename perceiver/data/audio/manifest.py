"""Manifests of sounds: a table that says where they are, and what they are."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perceiver.data.audio.sounds import LIMITS, Recording, SoundForm, Sounds
from perceiver.data.limits import Limits
from perceiver.data.source import SPLITS, Split
from perceiver.data.table import Line, check_there, inside, read_table, shown, wrong


class AudioManifest(Sounds):
    """Sounds that a table lists: `.csv`, `.jsonl` or `.parquet`, see `perceiver.data.table`.

    Columns: `path` (below the table's folder) and `label` (a word or a whole number); where they are there, `split` (train, val or test),
    `start` and `stop` (seconds, of a part of the file) and `id` (the sample's name). Where there is no `split`, a keyed hash of the path says
    it, so that all parts of a file are in the same one.

    A long sound is cropped, at random in training and to its middle otherwise; a short one keeps its length.

    Args:
        file: the table.
        sample_rate: Hz, to which sounds are resampled.
        max_seconds: the longest sound; what the adapter takes.
        entry: the sound's name in a row.
        channels: to which sounds are mixed: 1 takes mono, stereo and 5.1; 2 takes mono and 5.1, too; others their own number and mono.
        limits: what a file may claim before it is decoded.
        val_share: of the sounds, where the table has no splits.
        test_share: likewise.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        sample_rate: int,
        max_seconds: float,
        entry: str = "audio",
        channels: int = 1,
        limits: Limits = LIMITS,
        val_share: float = 0.1,
        test_share: float = 0.1,
    ) -> None:
        super().__init__(SoundForm(sample_rate, max_seconds, channels, limits), entry=entry, val_share=val_share, test_share=test_share)
        self.file = Path(file)

    @property
    def place(self) -> Path:
        return self.file

    def found(self) -> Iterable[tuple[Recording, str, Split]]:
        lines = read_table(self.file, required=("path", "label"))
        given = any("split" in line.cells for line in lines)
        found = [(self.recording(line), self.label(line), self.split(line) if given else self.drawn(line.cells["path"])) for line in lines]
        seen: dict[object, int] = {}
        for line, (recording, _, _) in zip(lines, found, strict=True):
            for key in {recording.name, (recording.file, recording.start, recording.stop)}:
                if key in seen:
                    wrong(self.file, line.number, f"repeats line {seen[key]} ({recording.name}): a sample comes once, so take one of them out")
                seen[key] = line.number
        check_there(recording.file for recording, _, _ in found)
        return found

    def recording(self, line: Line) -> Recording:
        """The file of a line, or its part."""
        path = line.cells["path"]
        if not isinstance(path, str):
            wrong(self.file, line.number, f"has {shown(path)} in its column 'path': write the path of a sound")
        file = inside(self.file.parent, path, f"{self.file}, line {line.number}")
        start, stop = self.seconds(line, "start"), self.seconds(line, "stop")
        if stop is not None and stop <= (start or 0.0):
            wrong(self.file, line.number, f"stops at {stop:g} s, not behind its start at {start or 0.0:g} s: give both in seconds")
        part = "" if start is None and stop is None else f" from {start or 0.0:g} to {'the end' if stop is None else f'{stop:g} s'}"
        name = line.cells.get("id")
        return Recording(file, f"{path}{part}" if name is None else str(name), start or 0.0, stop)

    def label(self, line: Line) -> str:
        """The class of a line."""
        label: Any = line.cells["label"]
        if label is None or label == "" or isinstance(label, bool) or not isinstance(label, str | int):
            wrong(self.file, line.number, f"has {shown(label)} in its column 'label': a label is a word or a whole number")
        return str(label)

    def split(self, line: Line) -> Split:
        """The split of a line, in a table that has them."""
        cell: Any = line.cells.get("split")
        for split in SPLITS:
            if cell == split:
                return split
        return wrong(self.file, line.number, f"has {shown(cell)} in its column 'split': write {', '.join(SPLITS)}")

    def seconds(self, line: Line, column: str) -> float | None:
        """A time of a line, when it has it."""
        cell: Any = line.cells.get(column)
        if cell is None:
            return None
        try:
            seconds = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):  # a whole number may be larger than any float
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            wrong(self.file, line.number, f"has {shown(cell)} in its column {column!r}: write seconds from the beginning of the file, as in 2.5")
        return seconds
