"""Clips: spans of equal length out of the videos in a folder, with frames, sound, or both."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perceiver.data.limits import Limits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split, not_found
from perceiver.data.splits import check_shares, split_of
from perceiver.data.video.container import TICK
from perceiver.data.video.file import Frames, Sound, extent, read_clip

LIMITS = Limits()


@dataclass(frozen=True)
class Stretch:
    """The part of a video that clips are cut from.

    Args:
        file: its path below the root.
        begin: s on the clock of the file.
        end: likewise.
        count: how many.
    """

    file: str
    begin: float
    end: float
    count: int


# From a stretch, a clip's length (s) and number, and the row's generator: when the clip starts (s).
Starts = Callable[[Stretch, float, int, np.random.Generator], float]


def one_after_another(stretch: Stretch, seconds: float, clip: int, draw: np.random.Generator) -> float:
    """Clips at the multiples of their length; what is left over at the end is in none."""
    return stretch.begin + clip * seconds


def anywhere(stretch: Stretch, seconds: float, clip: int, draw: np.random.Generator) -> float:
    """Clips that start at any millisecond, each equally likely: every clip has its own part of the times to start at."""
    room = (stretch.end - stretch.begin - seconds) / stretch.count
    return stretch.begin + math.floor(draw.uniform(clip * room, (clip + 1) * room) * 1000) / 1000


class ClipRows(Rows):
    """Clips of some videos; a video is opened for each clip and closed again.

    Args:
        root: the folder that the files' paths are relative to.
        stretches: what clips are cut from.
        seconds: length of a clip.
        frames: which frames are taken, if any.
        sound: how the sound is taken, if it is.
        starts: when clips start.
        limits: what a file may claim.
    """

    def __init__(
        self, root: Path, stretches: Sequence[Stretch], seconds: float, frames: Frames | None, sound: Sound | None, starts: Starts, limits: Limits
    ) -> None:
        self.root = root
        self.stretches = stretches
        self.seconds = seconds
        self.frames = frames
        self.sound = sound
        self.starts = starts
        self.limits = limits
        self._until = np.cumsum([stretch.count for stretch in stretches])

    def __len__(self) -> int:
        return int(self._until[-1])

    def name(self, index: int) -> str:
        """The file's path below the root, and the number of the clip in it."""
        stretch, clip = self._place(index)
        return f"{stretch.file}, clip {clip}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """`video`, uint8 (t, c, y, x), and `audio`, float32 (c, s), of the same span."""
        stretch, clip = self._place(index)
        start = self.starts(stretch, self.seconds, clip, draw)
        file, sample = self.root / stretch.file, self.name(index)
        video, audio = read_clip(file, sample, start=start, seconds=self.seconds, frames=self.frames, sound=self.sound, limits=self.limits)
        return {entry: payload for entry, payload in (("video", video), ("audio", audio)) if payload is not None}

    def _place(self, index: int) -> tuple[Stretch, int]:
        number = int(np.searchsorted(self._until, index, side="right"))
        return self.stretches[number], index - (int(self._until[number - 1]) if number else 0)


class VideoClips(Source):
    """Clips of all videos in a folder, without labels; for videos with labels see `perceiver.data.Manifest`.

    A row holds `video`, the frames, uint8 (t, c, y, x), and `audio`, the sound of the same span, float32 (c, s).
    Clips are cut from where all the streams that are asked for have begun to where the first of them ends. Clips of validation and test
    follow one after another, and what is left over at the end of a file is in none; training takes as many, or `density` times as many, out of
    each file, which start anywhere, elsewhere in each pass. A file's split follows from a keyed hash of its path below the root.

    Args:
        root: the folder.
        files: pattern of the files within it; `**/` stands for any number of folders.
        seconds: length of a clip.
        frames: which frames of a clip are taken; `None` for the sound alone.
        sound: how its sound is taken; `None` for the pictures alone.
        density: training takes so many clips for each that would fit in one after another; more than one where they are `Cached`.
        val_share: share of the files that is for validation.
        test_share: share of the files that is for the test.
        limits: what a file may claim before it is decoded.

    Raises:
        ValueError: when there is nothing to take, a number is out of range, or the pattern leads out of the folder.
    """

    def __init__(
        self,
        root: str | Path,
        files: str = "**/*.mp4",
        *,
        seconds: float,
        frames: Frames | None = None,
        sound: Sound | None = None,
        density: int = 1,
        val_share: float = 0.1,
        test_share: float = 0.1,
        limits: Limits = LIMITS,
    ) -> None:
        if frames is None and sound is None:
            raise ValueError("frames=None and sound=None: a clip needs at least one of them")
        if seconds <= 0:
            raise ValueError(f"seconds={seconds}: a clip has to last")
        if density < 1:
            raise ValueError(f"density={density}: give at least 1 clip for each that fits in")
        if not files or Path(files).is_absolute() or ".." in Path(files).parts:
            raise ValueError(f"files={files!r}: give a pattern within the folder {root}, such as '**/*.mp4'")
        check_shares(val_share, test_share)
        self.root = Path(root)
        self.files = files
        self.seconds = seconds
        self.frames = frames
        self.sound = sound
        self.density = density
        self.val_share = val_share
        self.test_share = test_share
        self.limits = limits
        self.entries = tuple(entry for entry, wanted in (("video", frames), ("audio", sound)) if wanted is not None)
        self.ragged = ("audio",) if sound is not None else ()

    def rows(self, split: Split) -> ClipRows:
        """The clips of a split. The headers of its files are read, to see how long they are.

        Raises:
            FileNotFoundError: when no file matches.
            ValueError: when a file is reached through a symbolic link, cannot be opened, lacks a stream, or is shorter than a clip.
        """
        names = [name for name in self._names() if split_of(name, self.val_share, self.test_share) == split]
        if not names:
            raise ValueError(f"no file of {self.files} in {self.root} falls into the {split} split: add files, or change val_share or test_share")
        return self._clips(names, split)

    def _clips(self, names: Sequence[str], split: Split) -> ClipRows:
        """Clips of some files, cut as a split has them."""
        stretches = [self._stretch(name) for name in names]
        if short := [stretch for stretch in stretches if stretch.count < 1]:
            lasts = short[0].end - short[0].begin
            raise ValueError(
                f"{len(short)} files in {self.root} are shorter than a clip of {self.seconds:g} s, the first one {short[0].file} with {lasts:.3f} s: "
                "lower `seconds`, or give a pattern that leaves them out"
            )
        starts = one_after_another
        if split == "train":
            starts, stretches = anywhere, [replace(stretch, count=stretch.count * self.density) for stretch in stretches]
        return ClipRows(self.root, stretches, self.seconds, self.frames, self.sound, starts, self.limits)

    def _names(self) -> list[str]:
        """Sorted paths of the files, below the root."""
        names = sorted(file.relative_to(self.root).as_posix() for file in self.root.glob(self.files) if file.is_file() or file.is_symlink())
        if not names:
            raise not_found(f"videos {self.files}", [self.root])
        real = self.root.resolve()
        for name in names:
            if (self.root / name).resolve() != real / name:
                raise ValueError(
                    f"{self.root / name} is reached through a symbolic link: put the file itself there, or give a pattern that leaves it out"
                )
        return names

    def _stretch(self, name: str) -> Stretch:
        begin, end = extent(self.root / name, name, frames=self.frames, sound=self.sound, limits=self.limits)
        return Stretch(name, begin, end, math.floor((end - begin) / self.seconds + TICK))
