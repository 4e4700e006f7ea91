"""Masking of bytes: what a model must restore from what is left.

A masking takes the ids of a text and gives two arrays of their length: the ids with some places hidden, and the targets, which are
the original ids at those places and PAD elsewhere. PAD stands for no byte, so it is never a target; special ids are never hidden.
Letters: l bytes, w words.
"""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Bool, Int

from perceiver.tokenizer import MASK, NUM_SPECIALS, PAD, VOCAB_SIZE

WHITESPACE = b" \t\n\r\v\f"
Ids = Int[np.ndarray, " l"]

IN_A_WORD = np.ones(VOCAB_SIZE, dtype=bool)
IN_A_WORD[:NUM_SPECIALS] = False
IN_A_WORD[[byte + NUM_SPECIALS for byte in WHITESPACE]] = False


def words(ids: Ids) -> tuple[Int[np.ndarray, " w"], Int[np.ndarray, " w"]]:
    """Where the words of a text start, and where they stop: maximal runs of bytes that are not ASCII whitespace.

    No byte of a longer UTF-8 character is whitespace, so no character is torn apart.

    Raises:
        ValueError: when an id lies outside the byte vocabulary.
    """
    check_ids(ids)
    inside = np.zeros(len(ids) + 2, dtype=bool)
    inside[1:-1] = IN_A_WORD[ids]
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return edges[::2], edges[1::2]


def check_ids(ids: Ids) -> None:
    """Raises a ValueError when an id lies outside the byte vocabulary."""
    if ids.size and not (0 <= (low := int(ids.min())) and (high := int(ids.max())) < VOCAB_SIZE):
        wrong = low if low < 0 else high
        raise ValueError(f"id {wrong} lies outside the byte vocabulary 0 ... {VOCAB_SIZE - 1}: encode the text with perceiver.tokenizer")


def check_share(name: str, share: float) -> None:
    """Raises a ValueError when a share is not in (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"{name}={share}: give a number above 0 and at most 1")


class Masking(ABC):
    """Hides some bytes of a text."""

    @abstractmethod
    def __call__(self, ids: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """The ids with some places hidden, and the targets: the original ids at those places, PAD elsewhere.

        Args:
            ids: of one text, from `perceiver.tokenizer`; they stay as they were.
            draw: the only source of randomness.

        Raises:
            ValueError: when an id lies outside the byte vocabulary.
        """


class WholeWords(Masking):
    """Hides whole words, as the published Perceiver IO language model was trained: with a part of a word left, the rest is easily guessed.

    Each word is chosen or not on its own; where none would be, one is, each equally likely. A text of whitespace alone has no word, and
    no targets. In a script without spaces a word is a whole sentence: hide `Spans` there.

    Args:
        share: of the words that are chosen.
        mask: share of the chosen words whose bytes all become MASK.
        replace: share of the chosen words whose bytes become random ones; the rest of them stay as they are, and are targets all the same.

    Raises:
        ValueError: when `share` is not in (0, 1], or `mask` and `replace` are no shares of one whole.
    """

    def __init__(self, share: float = 0.15, *, mask: float = 0.8, replace: float = 0.1) -> None:
        check_share("share", share)
        if not (mask >= 0 and replace >= 0 and mask + replace <= 1):
            raise ValueError(f"mask={mask} and replace={replace}: give shares of at least 0 that are at most 1 together")
        self.share = share
        self.mask = mask
        self.replace = replace

    def __call__(self, ids: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """The ids with some words hidden, and the targets."""
        starts, stops = words(ids)
        fates = np.full(len(starts), np.inf)
        chosen = np.flatnonzero(draw.random(len(starts)) < self.share)
        if not len(chosen) and len(starts):
            chosen = draw.integers(len(starts), size=1)
        fates[chosen] = draw.random(len(chosen))
        fate = np.full(len(ids), np.inf)  # of each byte: that of its word
        fate[IN_A_WORD[ids]] = np.repeat(fates, stops - starts)
        replaced = (fate >= self.mask) & (fate < self.mask + self.replace)
        masked = np.where(fate < self.mask, MASK, ids)
        masked[replaced] = draw.integers(NUM_SPECIALS, VOCAB_SIZE, size=int(replaced.sum()))
        return masked, np.where(fate < 1, ids, PAD)


class Spans(Masking):
    """Hides runs of bytes wherever they fall, as ByT5 was trained (Xue et al. 2022), for any script and any kind of bytes.

    As many bytes as the share says are hidden, at least one, in runs of random lengths. Two runs may touch.

    Args:
        share: of the bytes that are hidden.
        mean_bytes: mean length of a run.

    Raises:
        ValueError: when `share` is not in (0, 1], or a run is shorter than a byte.
    """

    def __init__(self, share: float = 0.15, *, mean_bytes: float = 20.0) -> None:
        check_share("share", share)
        if not mean_bytes >= 1:
            raise ValueError(f"mean_bytes={mean_bytes}: give at least 1")
        self.share = share
        self.mean_bytes = mean_bytes

    def __call__(self, ids: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """The ids with some runs hidden, and the targets."""
        check_ids(ids)
        places = np.flatnonzero(ids >= NUM_SPECIALS)
        hidden = places[self._runs(len(places), draw)]
        masked, targets = ids.copy(), np.full_like(ids, PAD)
        masked[hidden] = MASK
        targets[hidden] = ids[hidden]
        return masked, targets

    def _runs(self, length: int, draw: np.random.Generator) -> Bool[np.ndarray, " l"]:
        """Which of some bytes are hidden: runs of random lengths, pushed apart by random numbers of bytes that stay."""
        inside = np.zeros(length, dtype=bool)
        if length:
            hidden = max(1, round(length * self.share))
            runs = max(1, round(hidden / self.mean_bytes))
            cuts = np.sort(draw.choice(hidden - 1, size=runs - 1, replace=False)) + 1 if runs > 1 else np.zeros(0, np.int64)
            run = np.searchsorted(cuts, np.arange(hidden), side="right")
            shifts = np.sort(draw.integers(length - hidden + 1, size=runs))
            inside[np.arange(hidden) + shifts[run]] = True
        return inside
