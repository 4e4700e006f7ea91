"""Noise on text: typing errors and lost words, so that a model trained from scratch on a small set learns more than its wordings.

Both work on the ids of `perceiver.tokenizer`, and leave special ids as they are.
Letters: l bytes before, k bytes after.
"""

import numpy as np
import torch
from jaxtyping import Int

from perceiver.data.augment import Augment
from perceiver.data.rows import Row
from perceiver.data.text.masking import words
from perceiver.tokenizer import NUM_SPECIALS, VOCAB_SIZE

Ids = Int[np.ndarray, " l"]


def ids_of(row: Row, entry: str) -> Ids:
    """The ids of a row's text.

    Raises:
        ValueError: when the row has a target for each of its bytes.
    """
    if f"{entry}_target" in row:
        raise ValueError(f"the row has {entry}_target, a target for each byte of {entry}, which noise would move: leave out the mask or the noise")
    return np.asarray(row[entry])


class ByteNoise(Augment):
    """Typing errors: each byte is dropped, swapped with the next one, replaced by a random one, or doubled, at most one of these.

    They hit bytes, not characters, so that text beyond ASCII may end up as invalid UTF-8, which a model of bytes can read. One byte stays.

    Args:
        entry: the text, (l,).
        drop: probability that a byte is left out.
        swap: probability that it changes places with the next one; of such bytes in a row only the first does.
        replace: probability that another byte takes its place, out of all 256.
        double: probability that it comes twice.
        max_bytes: what the adapter takes; a text that grows longer is cut at its end.

    Raises:
        ValueError: when a probability is negative, or they are more than 1 together.
    """

    def __init__(
        self,
        entry: str = "text",
        *,
        drop: float = 0.01,
        swap: float = 0.01,
        replace: float = 0.01,
        double: float = 0.01,
        max_bytes: int | None = None,
    ) -> None:
        if not (min(drop, swap, replace, double) >= 0 and drop + swap + replace + double <= 1):
            raise ValueError(f"drop={drop}, swap={swap}, replace={replace}, double={double}: give numbers of at least 0, at most 1 together")
        self.entry = entry
        self.drop = drop
        self.swap = swap
        self.replace = replace
        self.double = double
        self.max_bytes = max_bytes

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The row with another text, if it has one."""
        if self.entry not in row:
            return row
        noisy = self._type(ids_of(row, self.entry), draw)
        return row | {self.entry: torch.from_numpy(noisy[: self.max_bytes])}

    def _type(self, ids: Ids, draw: np.random.Generator) -> Int[np.ndarray, " k"]:
        is_byte = ids >= NUM_SPECIALS
        limits = np.cumsum([self.drop, self.swap, self.replace, self.double])
        dropped, swapped, replaced, doubled = range(4)
        fate = np.where(is_byte, np.searchsorted(limits, draw.random(len(ids)), side="right"), len(limits))
        times = np.ones(len(ids), np.int64)
        times[fate == dropped] = 0
        times[fate == doubled] = 2
        if not times.any() and len(ids):
            times[draw.integers(len(ids))] = 1
        order = np.arange(len(ids))
        turns = fate == swapped
        before = np.append(False, turns)[:-1]
        left = np.flatnonzero((turns & ~before)[:-1] & is_byte[1:])
        order[left], order[left + 1] = left + 1, left
        noisy = ids.copy()
        noisy[fate == replaced] = draw.integers(NUM_SPECIALS, VOCAB_SIZE, size=int((fate == replaced).sum()))
        return noisy[np.repeat(order, times[order])]


class WordDropout(Augment):
    """Leaves out whole words, each with the whitespace behind it, but never all of them.

    Args:
        entry: the text, (l,).
        probability: that a word goes.

    Raises:
        ValueError: when the probability is not in [0, 1].
    """

    def __init__(self, entry: str = "text", probability: float = 0.1) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability}: give a number in [0, 1]")
        self.entry = entry
        self.probability = probability

    def __call__(self, row: Row, draw: np.random.Generator) -> Row:
        """The row with fewer words. Where none would be left, one stays, each equally likely."""
        if self.entry not in row:
            return row
        ids = ids_of(row, self.entry)
        starts, _ = words(ids)
        if not len(starts):
            return row
        draws = draw.random(len(starts))
        stays = draws >= self.probability
        stays[draws.argmax()] = True
        keep = ids < NUM_SPECIALS
        keep[: starts[0]] = True
        keep[starts[0] :] |= np.repeat(stays, np.diff(starts, append=len(ids)))
        return row | {self.entry: torch.from_numpy(ids[keep])}
