"""Keyed permutations: a shuffle that is a function, with no state and no table.

A Feistel network (Luby and Rackoff 1988) permutes the whole numbers below a power of four, whatever its round function is;
numbers that land beyond the length are sent through again until they land below it (cycle walking, Black and Rogaway 2002).
So the position of a row in a shuffled pass costs the same at any place of any pass, and resuming costs nothing.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


def mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scrambles 64-bit numbers, one to one: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def key_of(*numbers: int) -> int:
    """One 64-bit key out of several whole numbers, in which their order counts."""
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = mix(key + np.uint64(number % 2**64) + np.uint64(0x9E3779B97F4A7C15))
    return int(key[0])


def permute(positions: NDArray[np.int64], length: int, key: int) -> NDArray[np.int64]:
    """The rows at some positions of a shuffle of `length` rows; another key, another shuffle.

    Raises:
        ValueError: when a position is not below the length.
    """
    if positions.size and not (0 <= int(positions.min()) and int(positions.max()) < length):
        raise ValueError(f"positions {int(positions.min())} to {int(positions.max())} of a shuffle of {length} rows: give positions below the length")
    half = np.uint64(max(1, ((length - 1).bit_length() + 1) // 2))
    keys = mix(np.uint64(key) + np.arange(1, ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    rows = positions.astype(np.uint64)
    walking = np.ones(rows.shape, dtype=bool)
    while walking.any():
        rows[walking] = feistel(rows[walking], half, keys)
        walking = rows >= np.uint64(length)
    return rows.astype(np.int64)


def feistel(numbers: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Permutes the numbers of `2 * half` bits."""
    low = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & low
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) & low)
    return (left << half) | right
