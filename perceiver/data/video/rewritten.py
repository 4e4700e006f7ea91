"""Clips for autoencoders: what goes in is what shall come out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split


class RewrittenClips(Source):
    """Clips as the published autoencoder takes them: `image`, float32 (t, c, y, x) in [0, 1], and `audio`, float32 (s, 1) in [-1, 1].

    Args:
        clips: with frames (`video`), sound (`audio`) or both: `VideoClips`, or `SameVideos` to see how much of some videos goes through the latents.
    """

    def __init__(self, clips: Source) -> None:
        self.clips = clips
        self.entries = tuple({"video": "image", "audio": "audio"}[entry] for entry in clips.entries)

    @property
    def task(self) -> Mapping[str, Any]:
        """None of those that a mixture of tasks can have."""
        return {}

    def prepare(self) -> None:
        """Fetches the videos, where there is something to fetch."""
        self.clips.prepare()

    def rows(self, split: Split) -> Rows:
        """The clips of a split."""
        return RewrittenRows(self.clips.rows(split))


class RewrittenRows(Rows):
    """Rows of one split.

    Args:
        clips: the clips.
    """

    def __init__(self, clips: Rows) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        """The clip's."""
        return self.clips.name(index)

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """Frames and sound, as numbers."""
        clip = self.clips.row(index, draw)
        found: Row = {}
        if "video" in clip:
            found["image"] = clip["video"].float() / 255
        if "audio" in clip:
            found["audio"] = clip["audio"].mean(0)[:, None]
        return found
