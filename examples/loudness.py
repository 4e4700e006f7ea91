"""A task of one's own: how loud a sound is, a number and no class. See docs/own_data.md.

    loudness:
      source:
        class_path: examples.loudness.Loudness
        init_args: {sounds: {class_path: perceiver.data.AudioFolder, init_args: {root: words, sample_rate: 16000, max_seconds: 5.0}}}

Letters: b rows of the batch, r rows of this task.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn

from perceiver.data import Rows, Source
from perceiver.queries import LearnedQueries
from perceiver.tasks import OBJECTIVES, Objective


class Number(Objective):
    """One number a row: `<entry>` in the batch, (1,), for the rows that have it.

    Args:
        entry: what is asked; its name ends with `_target`.
        close: an answer that is no further off counts as right.
    """

    def __init__(self, entry: str, close: float) -> None:
        self.entry = entry
        self.close = close

    def readout(self, query_dim: int, token_dim: int) -> tuple[nn.Module, nn.Module]:
        """One learned query, and a linear map to the number."""
        return LearnedQueries(1, query_dim), nn.Linear(query_dim, 1)

    def judge(self, outputs: Float[Tensor, "r 1 1"], batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """The absolute error, and whether it is small."""
        asked = batch[self.entry][rows[batch[f"{self.entry}_present"]], 0]
        error = (outputs[:, 0, 0] - asked).abs()
        return error, (error <= self.close).float()


OBJECTIVES["number"] = Number  # when this file is imported, as naming `Loudness` in a configuration does


class Loudness(Source):
    """The sounds of another dataset, and how loud they are, in dB of full scale, divided by 100.

    Args:
        sounds: the other dataset, with the entry `audio`.
    """

    entries = ("audio",)
    ragged = ("audio", "loudness_target")  # the latter so that rows of other datasets may lack it

    def __init__(self, sounds: Source) -> None:
        self.sounds = sounds

    @property
    def task(self) -> Mapping[str, Any]:
        """Plain data, out of which the objective is made."""
        return {"task": "number", "entry": "loudness_target", "close": 0.03}

    def prepare(self) -> None:
        """Fetches the other dataset."""
        self.sounds.prepare()

    def rows(self, split: Literal["train", "val", "test"]) -> Rows:
        """As many as the other dataset has."""
        return LoudRows(self.sounds.rows(split))


class LoudRows(Rows):
    """Rows of one split.

    Args:
        sounds: of the other dataset.
    """

    def __init__(self, sounds: Rows) -> None:
        self.sounds = sounds

    def __len__(self) -> int:
        return len(self.sounds)

    def name(self, index: int) -> str:
        return self.sounds.name(index)

    def row(self, index: int, draw: np.random.Generator) -> dict[str, Any]:
        """The sound (c, s), and its loudness (1,)."""
        audio = self.sounds.row(index, draw)["audio"]
        return {"audio": audio, "loudness_target": (audio.square().mean() + 1e-10).log10()[None] / 10}
