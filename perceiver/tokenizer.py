"""Text as bytes: no vocabulary to learn, no text that cannot be written.

Ids are those of the published language model: six special ids, then the 256 bytes. Any byte string round-trips.
"""

from collections.abc import Iterable

PAD, BOS, EOS, MASK, CLS, SEP = range(6)
NUM_SPECIALS = 6
VOCAB_SIZE = NUM_SPECIALS + 256


def encode(text: str | bytes) -> list[int]:
    """The ids of a text's UTF-8 bytes, without special ids around them; lone surrogates pass as their three bytes."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return [byte + NUM_SPECIALS for byte in data]


def decode(ids: Iterable[int]) -> bytes:
    """The bytes behind ids; special ids are left out. For a `str`, decode the bytes with the error handler of your choice.

    Raises:
        ValueError: when an id lies outside the vocabulary.
    """
    ids = list(ids)
    for i in ids:
        if not 0 <= i < VOCAB_SIZE:
            raise ValueError(f"id {i} lies outside the byte vocabulary 0 ... {VOCAB_SIZE - 1}")
    return bytes(i - NUM_SPECIALS for i in ids if i >= NUM_SPECIALS)
