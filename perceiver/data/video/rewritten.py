"""Clips for autoencoders: what goes in is what shall come out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split
from perceiver.data.video.clips import ClipRows, VideoClips, one_after_another


class RewrittenClips(Source):
    """Clips as the published autoencoder takes them: `image`, float32 (t, c, y, x) in [0, 1], and `audio`, float32 (s, 1) in [-1, 1].

    All splits have the same videos. Training takes clips that start anywhere, validation and test those that follow one after another: what is
    tested is how much of these videos goes through the latents, not how a model does on others.

    Args:
        clips: with frames, sound or both; its shares for validation and test do not matter, and must be 0.

    Raises:
        ValueError: when they are not 0.
    """

    def __init__(self, clips: VideoClips) -> None:
        if clips.val_share or clips.test_share:
            raise ValueError(f"val_share={clips.val_share} and test_share={clips.test_share}: give 0 for both, since all splits have the same videos")
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
        rows = self.clips.rows("train")
        if split != "train":
            rows = ClipRows(rows.root, rows.stretches, rows.seconds, rows.frames, rows.sound, one_after_another, rows.limits)
        return RewrittenRows(rows)


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
