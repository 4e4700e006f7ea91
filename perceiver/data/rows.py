"""Rows: one split of a dataset, a row at a time.

A row is a mapping: raw entries by modality, those that it lacks left out, and what is said of the row as a whole (`target`).
All randomness comes from the generator that is passed in, so that a row is a function of its number and that generator alone:
workers, order and resuming cannot change it.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

Row = dict[str, Any]


class BadSample(ValueError):
    """A sample that cannot be decoded, or that a limit forbids to decode.

    Args:
        sample: its id, as `Rows.name` gives it.
        reason: what is wrong with it.
    """

    def __init__(self, sample: str, reason: str) -> None:
        super().__init__(sample, reason)
        self.sample = sample
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.sample}: {self.reason}"


class Rows(ABC):
    """Rows of one split, by number. Data workers get a copy each, so they must pickle, and open files only when asked for a row."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The id of a row, for messages: a path within the dataset, or a file and a line."""

    @abstractmethod
    def row(self, index: int, draw: np.random.Generator) -> Row:
        """A row.

        Args:
            index: below the length.
            draw: the only source of randomness.

        Raises:
            BadSample: when it cannot be decoded.
        """
