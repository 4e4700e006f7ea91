"""Sums of digits: the class follows from both halves of a row, and from neither alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from toy_datasets import ToyImages, ToyRows

from perceiver.data.pairs import DigitSums
from perceiver.data.source import Source, Split


class Digits(Source):
    """Rows that hold their own digit."""

    classes = tuple("0123456789")

    def __init__(self, entry: str, length: int) -> None:
        self.entries = (entry,)
        self.length = length
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def rows(self, split: Split) -> ToyRows:
        (entry,) = self.entries
        return ToyRows(self.length, lambda index, draw: {entry: torch.tensor([index % 10]), "target": index % 10})


def sums() -> DigitSums:
    return DigitSums(Digits("image", 70), Digits("audio", 130))


def test_the_class_is_the_last_digit_of_the_sum():
    rows = sums().rows("train")
    assert len(rows) == 70 and rows.name(3) == "row-3"
    for index in range(70):
        row = rows.row(index, np.random.default_rng(index))
        assert row["target"] == (int(row["image"]) + int(row["audio"])) % 10 and int(row["image"]) == index % 10


def test_a_picture_gets_the_same_recording_from_the_same_generator_and_others_from_others():
    rows = sums().rows("test")
    assert rows.row(3, np.random.default_rng(5))["audio"] == rows.row(3, np.random.default_rng(5))["audio"]
    assert len({int(rows.row(3, np.random.default_rng(seed))["audio"]) for seed in range(100)}) == 10


def test_one_digit_alone_says_nothing_about_the_sum():
    rows = sums().rows("train")
    counts = Counter(rows.row(3, np.random.default_rng(seed))["target"] for seed in range(5_000))
    assert len(counts) == 10 and all(abs(n - 500) < 5 * 450**0.5 for n in counts.values())


def test_both_datasets_are_prepared_and_must_be_digits_under_different_names():
    pairs = sums()
    pairs.prepare()
    assert pairs.images.prepared == pairs.sounds.prepared == 1
    with pytest.raises(ValueError, match="both datasets call an entry image"):
        DigitSums(Digits("image", 7), Digits("image", 7))
    with pytest.raises(ValueError, match="ToyImages has 3 classes"):
        DigitSums(ToyImages(), Digits("audio", 7))
