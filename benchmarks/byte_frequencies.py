"""What a masked byte costs whoever does not read: the lines that `configs/masked_bytes.yaml` is to be compared with.

    python benchmarks/byte_frequencies.py

The bytes that the recipe hides in its test are foretold from how often each stands in the text for training: anywhere; at that place of a word of
that length, which is all that a row of masks tells by itself; and with what the masking gives away: one word in ten is not hidden at all, and one in
ten has random bytes in its place, so that a byte that is left standing is right half of the time.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import yaml

from perceiver.data import TinyShakespeare
from perceiver.data.text.masking import WholeWords, words
from perceiver.tokenizer import MASK, PAD


class Byte(NamedTuple):
    """A byte of a word.

    Attributes:
        place: length of the word, and place in it.
        byte: its id.
        shown: the id that the model sees.
        asked: whether the model is asked for it.
    """

    place: tuple[int, int]
    byte: int
    shown: int
    asked: bool


def recipe() -> TinyShakespeare:
    """The dataset as the recipe has it."""
    with open("configs/masked_bytes.yaml") as file:
        options = yaml.safe_load(file)["data"]["init_args"]["datasets"]["shakespeare"]["source"]["init_args"]
    return TinyShakespeare(length=options["length"], mask=WholeWords())


def split(source: TinyShakespeare, name: str) -> Iterator[Byte]:
    """All bytes of words in a split."""
    rows = source.rows(name)  # type: ignore[arg-type]
    for number in range(len(rows)):
        row = rows.row(number, np.random.default_rng(number))
        shown, target = row["text"].numpy(), row["text_target"].numpy()
        ids = np.where(target == PAD, shown, target)
        for start, stop in zip(*words(ids), strict=True):
            for at in range(start, stop):
                yield Byte((stop - start, at - start), int(ids[at]), int(shown[at]), bool(target[at] != PAD))


class Frequencies:
    """How often each byte stands in the text for training, anywhere and by place."""

    def __init__(self, source: TinyShakespeare) -> None:
        self.anywhere: Counter[int] = Counter()
        self.places: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for one in split(source, "train"):
            self.anywhere[one.byte] += 1
            self.places[one.place][one.byte] += 1

    def by_byte(self, byte: int, one: Byte) -> float:
        """Probability of a byte, wherever it stands."""
        return max(self.anywhere[byte], 1) / self.anywhere.total()

    def by_place(self, byte: int, one: Byte) -> float:
        """Its probability at that place of a word of that length; the frequencies of all places count as one more byte there."""
        counts = self.places[one.place]
        return (counts[byte] + self.by_byte(byte, one)) / (counts.total() + 1)

    def as_shown(self, byte: int, one: Byte) -> float:
        """The same, and half of it goes to the byte that is shown, where one is."""
        found = self.by_place(byte, one)
        return found if one.shown == MASK else 0.5 * found + 0.5 * (byte == one.shown)


def main() -> None:
    """Counts and prints."""
    source = recipe()
    source.prepare()
    known = Frequencies(source)
    asked = [one for one in split(source, "test") if one.asked]
    for what, chance in (("by byte", known.by_byte), ("by byte and place in the word", known.by_place), ("and by what is shown", known.as_shown)):
        loss = sum(-math.log(chance(one.byte, one)) for one in asked) / len(asked)
        right = sum(max(known.anywhere, key=lambda byte, one=one, chance=chance: chance(byte, one)) == one.byte for one in asked) / len(asked)
        print(f"{what}: {loss:.3f} nats, {100 * right:.1f} % right, of {len(asked):,} bytes")


if __name__ == "__main__":
    main()
