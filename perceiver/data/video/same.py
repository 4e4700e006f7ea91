"""Clips of the same videos for training and for the test."""

from pathlib import Path

from perceiver.data.limits import Limits
from perceiver.data.source import Split
from perceiver.data.video.clips import LIMITS, ClipRows, VideoClips
from perceiver.data.video.file import Frames, Sound


class SameVideos(VideoClips):
    """`VideoClips` in which all splits have all videos: for what is learned of these videos, not of videos at large.

    Training takes clips that start anywhere, validation and test those that follow one after another.

    Args:
        root: the folder.
        files: pattern of the files within it; `**/` stands for any number of folders.
        seconds: length of a clip.
        frames: which frames of a clip are taken; `None` for the sound alone.
        sound: how its sound is taken; `None` for the pictures alone.
        density: training takes so many clips for each that would fit in one after another; more than one where they are `Cached`.
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
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__(root, files, seconds=seconds, frames=frames, sound=sound, density=density, val_share=0.0, test_share=0.0, limits=limits)

    def rows(self, split: Split) -> ClipRows:
        """The clips of a split; see `VideoClips.rows`."""
        return self._clips(self._names(), split)
