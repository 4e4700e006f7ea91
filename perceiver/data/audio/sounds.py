"""Labelled sounds in files: which part of a long one is taken, and how all are brought to one rate and number of channels.

A sound that is longer than wanted is cropped, in training at a place that is drawn, otherwise to its middle. A shorter one stays as long as
it is: the batch pads it and keeps its length, so that nobody hears silence that was not recorded.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perceiver.data.audio.file import read_sound
from perceiver.data.limits import Limits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import SPLITS, Source, Split
from perceiver.data.splits import check_shares, split_of
from perceiver.data.table import number_classes

LIMITS = Limits()

# From the samples that there are and those that are wanted, which are fewer, and the row's generator: the first one to take.
Crop = Callable[[int, int, np.random.Generator], int]


def random_crop(samples: int, wanted: int, draw: np.random.Generator) -> int:
    """Any part, each equally likely."""
    return int(draw.integers(samples - wanted + 1))


def middle_crop(samples: int, wanted: int, draw: np.random.Generator) -> int:
    """The middle, whatever is drawn."""
    return (samples - wanted) // 2


CROPS: dict[Split, Crop] = {"train": random_crop, "val": middle_crop, "test": middle_crop}


@dataclass(frozen=True)
class SoundForm:
    """The form that all sounds of a dataset are brought to.

    Args:
        sample_rate: Hz.
        max_seconds: what is longer is cropped.
        channels: see `perceiver.data.audio.file.downmix`.
        limits: what a file may claim before it is decoded.

    Raises:
        ValueError: when there would be nothing left.
    """

    sample_rate: int
    max_seconds: float
    channels: int = 1
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.channels < 1 or not self.max_samples >= 1:
            raise ValueError(f"sample_rate={self.sample_rate} Hz, channels={self.channels}, max_seconds={self.max_seconds}: give at least one sample")

    @property
    def max_samples(self) -> int:
        """The longest sound, as `AudioPatches` counts it."""
        return round(self.sample_rate * self.max_seconds)


class Recording(NamedTuple):
    """A file, or a part of it.

    Args:
        file: where it is.
        name: its id.
        start: s, of the part.
        stop: s, of the part; the end of the file when not given.
    """

    file: Path
    name: str
    start: float = 0.0
    stop: float | None = None


class SoundFiles(Rows):
    """Recordings that are decoded when their row is asked for.

    Args:
        recordings: one a row.
        targets: the number of each one's class.
        form: that they are brought to.
        crop: which part of a long one is taken.
        entry: the sound's name in a row.
    """

    def __init__(self, recordings: Sequence[Recording], targets: Sequence[int], form: SoundForm, crop: Crop, entry: str) -> None:
        self.recordings = recordings
        self.targets = targets
        self.form = form
        self.crop = crop
        self.entry = entry

    def __len__(self) -> int:
        return len(self.recordings)

    def name(self, index: int) -> str:
        """The id of a recording."""
        return self.recordings[index].name

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The sound, (c, s), and its class."""
        recording, form = self.recordings[index], self.form

        def part(samples: int, rate: int) -> tuple[int, int]:
            first, behind = cut_out(recording, samples, rate)
            wanted = -(-form.max_samples * rate // form.sample_rate)
            if behind - first <= wanted:
                return first, behind
            first += self.crop(behind - first, wanted, draw)
            return first, first + wanted

        wave = read_sound(recording.file, recording.name, sample_rate=form.sample_rate, channels=form.channels, limits=form.limits, part=part)
        return {self.entry: wave[:, : form.max_samples].contiguous(), "target": self.targets[index]}


def cut_out(recording: Recording, samples: int, rate: int) -> tuple[int, int]:
    """The first sample of a recording in its file, and the one behind the last.

    Raises:
        ValueError: when the file ends before.
    """
    first = round(recording.start * rate)
    behind = samples if recording.stop is None else round(recording.stop * rate)
    if not first < behind <= samples:
        until = "its end" if recording.stop is None else f"{recording.stop:g} s"
        raise ValueError(f"there is no sound from {recording.start:g} s to {until}: the file has {samples / rate:g} s")
    return first, behind


class Sounds(Source):
    """Labelled sounds in files, by split.

    Args:
        form: that they are brought to.
        entry: the sound's name in a row.
        val_share: of the sounds, where nothing else says which split they are in.
        test_share: likewise.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(self, form: SoundForm, *, entry: str, val_share: float = 0.0, test_share: float = 0.0) -> None:
        check_shares(val_share, test_share)
        self.form = form
        self.entries = self.ragged = (entry,)
        self.val_share = val_share
        self.test_share = test_share

    @property
    def classes(self) -> Sequence[str]:
        """Sorted names of the classes."""
        return list(number_classes(label for found in self.listing.values() for _, label in found))

    def rows(self, split: Split) -> SoundFiles:
        """The sounds of a split: cropped at random in training, to their middle otherwise."""
        if not self.listing[split]:
            shares = f"val_share={self.val_share}, test_share={self.test_share}"
            raise ValueError(f"{self.place} has no sounds of the split {split!r}: add some, or change what it gets ({shares})")
        numbers = {label: number for number, label in enumerate(self.classes)}
        recordings = [recording for recording, _ in self.listing[split]]
        targets = [numbers[label] for _, label in self.listing[split]]
        return SoundFiles(recordings, targets, self.form, CROPS[split], self.entries[0])

    @cached_property
    def listing(self) -> Mapping[Split, Sequence[tuple[Recording, str]]]:
        """Recordings with the names of their classes, by split.

        Raises:
            FileNotFoundError: when something that should be there is not.
            ValueError: when the dataset is empty, has a class that training has not, or something else is wrong with it.
        """
        listing: dict[Split, list[tuple[Recording, str]]] = {split: [] for split in SPLITS}
        for recording, label, split in self.found():
            listing[split].append((recording, label))
        trained = {label for _, label in listing["train"]}
        if missing := sorted({label for found in listing.values() for _, label in found} - trained):
            raise ValueError(f"{self.place} has no sounds of the class {missing[0]!r} to train on: add some, or take the class out")
        return listing

    def drawn(self, path: str) -> Split:
        """The split of a file, by a keyed hash of its path below the dataset."""
        return split_of(path, self.val_share, self.test_share)

    @property
    @abstractmethod
    def place(self) -> Path:
        """The dataset's folder or table, for messages."""

    @abstractmethod
    def found(self) -> Iterable[tuple[Recording, str, Split]]:
        """Recordings, the names of their classes, and their splits."""
