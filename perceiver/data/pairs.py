"""Pairs: a picture of a digit and a spoken digit, which are worth nothing without one another."""

from collections.abc import Sequence

import numpy as np

from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split


class DigitSums(Source):
    """A row has a picture and a recording; its class is the sum of both digits, modulo 10.

    Each picture comes once in a pass, with a recording that is drawn for it; in evaluation the draw is always the same. Given
    one digit alone, all ten sums are equally likely: a model that lacks a modality is at chance.

    Args:
        images: dataset of digits, as `perceiver.data.MNIST`; its targets are the digits.
        sounds: dataset of spoken digits, as `perceiver.data.FreeSpokenDigits`, likewise.

    Raises:
        ValueError: when one of them has not the ten classes 0 to 9, or both name their entry alike.
    """

    def __init__(self, images: Source, sounds: Source) -> None:
        for source in (images, sounds):
            if len(source.classes) != 10:
                raise ValueError(
                    f"{type(source).__name__} has {len(source.classes)} classes, and sums are made of ten digits: give a dataset of digits"
                )
        if shared := set(images.entries) & set(sounds.entries):
            raise ValueError(f"both datasets call an entry {', '.join(shared)}: name one of them otherwise")
        self.images = images
        self.sounds = sounds
        self.entries = (*images.entries, *sounds.entries)
        self.ragged = (*images.ragged, *sounds.ragged)

    @property
    def classes(self) -> Sequence[str]:
        """The last digit of the sum."""
        return [str(digit) for digit in range(10)]

    def prepare(self) -> None:
        """Fetches both datasets."""
        self.images.prepare()
        self.sounds.prepare()

    def rows(self, split: Split) -> Rows:
        """As many rows as there are pictures in the split."""
        return DigitSumRows(self.images.rows(split), self.sounds.rows(split))


class DigitSumRows(Rows):
    """Rows of one split.

    Args:
        images: pictures of digits.
        sounds: recordings of digits.
    """

    def __init__(self, images: Rows, sounds: Rows) -> None:
        self.images = images
        self.sounds = sounds

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def row(self, index: int, draw: np.random.Generator) -> Row:
        sound = int(draw.integers(len(self.sounds)))
        image_row = self.images.row(index, draw)
        sound_row = self.sounds.row(sound, draw)
        return image_row | sound_row | {"target": (image_row["target"] + sound_row["target"]) % 10}
