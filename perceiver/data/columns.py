"""Columns of a manifest: how the cells of each become one modality of the rows.

A cell holds a text, or the path of a file below the manifest's folder. What is wrong with it is said before any training, as far as no file
has to be opened for that; what is wrong in a file, when its row is asked for.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from perceiver.data.audio.sounds import CROPS, Recording, SoundFiles, SoundForm
from perceiver.data.image.file import MODES, fit, read_picture
from perceiver.data.limits import Limits
from perceiver.data.source import Split
from perceiver.data.table import inside
from perceiver.data.text.table import Cut
from perceiver.data.video.container import Container, pyav
from perceiver.data.video.file import Frames, Sound, read_frames, read_samples
from perceiver.tokenizer import encode

START = re.compile(r"#t=(\d+(?:\.\d+)?)$")  # the simplest of the W3C's media fragments


class Cell(NamedTuple):
    """A cell that is not empty.

    Args:
        content: what stands in it.
        root: the folder that paths are relative to.
        sample: the id of its row, for messages.
    """

    content: str
    root: Path
    sample: str


class Column(ABC):
    """How the cells of a column become a modality.

    Args:
        column: its name in the table; that of the row's entry when not given.

    Attributes:
        ragged: whether the last axis varies from row to row.
    """

    ragged = False

    def __init__(self, column: str | None = None) -> None:
        self.column = column

    @abstractmethod
    def check(self, cell: Cell) -> Path | None:
        """Refuses a cell of which it is clear before any file is opened that it cannot be read.

        Returns:
            The file that it names, which need not be there; None when it names none.

        Raises:
            ValueError: naming the row.
        """

    @abstractmethod
    def read(self, cell: Cell, split: Split, limits: Limits, draw: np.random.Generator) -> Tensor:
        """The entry of a row.

        Args:
            cell: one that was checked.
            split: of the row.
            limits: of what is decoded.
            draw: the only source of randomness.

        Raises:
            BadSample: when it cannot be decoded.
        """


class FileColumn(Column):
    """A column of paths."""

    def check(self, cell: Cell) -> Path:
        """The file that a cell names.

        Raises:
            ValueError: when it is outside the folder, or reached through a symbolic link.
        """
        return inside(cell.root, cell.content, cell.sample)


class ImageColumn(FileColumn):
    """Paths of pictures, which become bytes (c, y, x). See `perceiver.data.image.file`.

    Args:
        size: rows and columns of pixels, to which the largest centred part with that aspect is resized.
        channels: 1 for grey, 3 for colour.
        column: the column's name in the table; that of the row's entry when not given.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(self, size: tuple[int, int], *, channels: int = 3, column: str | None = None) -> None:
        super().__init__(column)
        if min(size) < 1 or channels not in MODES:
            raise ValueError(
                f"size={tuple(size)}, channels={channels}: give at least 1 row and 1 column of pixels, and 1 channel for grey or 3 for colour"
            )
        self.size = size
        self.channels = channels

    def read(self, cell: Cell, split: Split, limits: Limits, draw: np.random.Generator) -> Tensor:
        return fit(read_picture(cell.sample, self.check(cell), self.channels, limits), self.size)


class AudioColumn(FileColumn):
    """Paths of sounds, which become (c, s). A long one is cropped, at random in training and to its middle otherwise; a short one stays short.

    Args:
        sample_rate: Hz, to which sounds are resampled.
        max_seconds: the longest sound; what the adapter takes.
        channels: to which they are mixed, see `perceiver.data.audio.file.downmix`.
        column: the column's name in the table; that of the row's entry when not given.

    Raises:
        ValueError: when there would be nothing left.
    """

    ragged = True

    def __init__(self, sample_rate: int, max_seconds: float, *, channels: int = 1, column: str | None = None) -> None:
        super().__init__(column)
        self.form = SoundForm(sample_rate, max_seconds, channels)

    def read(self, cell: Cell, split: Split, limits: Limits, draw: np.random.Generator) -> Tensor:
        form = replace(self.form, limits=limits)
        sounds = SoundFiles([Recording(self.check(cell), cell.sample)], [0], form, CROPS[split], "sound")
        return sounds.row(0, draw)["sound"]


class TextColumn(Column):
    """Texts themselves, which become the ids (l,) of their bytes.

    Args:
        max_bytes: the longest text, in bytes; at most what the adapter takes.
        cut: what shortens longer ones, such as `perceiver.data.text.table.keep_start`; without, they are refused.
        column: the column's name in the table; that of the row's entry when not given.

    Raises:
        ValueError: when there would be nothing left.
    """

    ragged = True

    def __init__(self, max_bytes: int, *, cut: Cut | None = None, column: str | None = None) -> None:
        super().__init__(column)
        if max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes}: give at least 1")
        self.max_bytes = max_bytes
        self.cut = cut

    def check(self, cell: Cell) -> None:
        """Refuses a text that is too long, when nothing cuts it."""
        length = len(cell.content.encode())
        if self.cut is None and length > self.max_bytes:
            raise ValueError(
                f"{cell.sample}: a text of {length} bytes is longer than max_bytes={self.max_bytes}: raise max_bytes and the adapter's max_length, "
                "or give cut=perceiver.data.text.table.keep_start"
            )

    def read(self, cell: Cell, split: Split, limits: Limits, draw: np.random.Generator) -> Tensor:
        data = cell.content.encode()
        if self.cut is not None and len(data) > self.max_bytes:
            data = self.cut(data, self.max_bytes)
        return torch.tensor(encode(data))


class SpanColumn(FileColumn):
    """Paths of videos, of which a span is taken. `talk.mp4` takes it from 0 s on, `talk.mp4#t=12.5` from 12.5 s on.

    Two columns that name the same column of the table take the same span of it, so that frames and sound belong together.

    Args:
        seconds: length of the span.
        column: the column's name in the table; that of the row's entry when not given.

    Raises:
        ValueError: when the span has no length.
    """

    def __init__(self, seconds: float, column: str | None = None) -> None:
        super().__init__(column)
        if seconds <= 0:
            raise ValueError(f"seconds={seconds}: a span has to last")
        self.seconds = seconds

    def check(self, cell: Cell) -> Path:
        """The file that a cell names, without the start of the span.

        Raises:
            ValueError: when it is outside the folder, or reached through a symbolic link.
            ImportError: when it could not be decoded, saying what to install.
        """
        pyav()
        return super().check(cell._replace(content=START.sub("", cell.content)))

    def start(self, cell: Cell) -> float:
        """Where the span begins, in s on the clock of the file."""
        found = START.search(cell.content)
        return float(found[1]) if found else 0.0


class VideoColumn(SpanColumn):
    """Paths of videos, for the frames of a span, which become bytes (t, c, y, x). See `SpanColumn` and `perceiver.data.video.file`.

    Args:
        seconds: length of the span.
        frames: which of its frames are taken.
        column: the column's name in the table; that of the row's entry when not given.
    """

    def __init__(self, seconds: float, frames: Frames, *, column: str | None = None) -> None:
        super().__init__(seconds, column)
        self.frames = frames

    def read(self, cell: Cell, split: Split, limits: Limits, draw: np.random.Generator) -> Tensor:
        return read_frames(Container(self.check(cell), cell.sample, limits), self.start(cell), self.seconds, self.frames)


class VideoSoundColumn(SpanColumn):
    """Paths of videos, for the sound of a span, which becomes (c, s). See `SpanColumn` and `perceiver.data.video.file`.

    Args:
        seconds: length of the span.
        sound: how its sound is taken.
        column: the column's name in the table; that of the row's entry when not given.
    """

    ragged = True

    def __init__(self, seconds: float, sound: Sound, *, column: str | None = None) -> None:
        super().__init__(seconds, column)
        self.sound = sound

    def read(self, cell: Cell, split: Split, limits: Limits, draw: np.random.Generator) -> Tensor:
        return read_samples(Container(self.check(cell), cell.sample, limits), self.start(cell), self.seconds, self.sound)
