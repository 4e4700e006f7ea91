"""Padding: arrays of different sizes made equally large."""

from collections.abc import Sequence

from jaxtyping import Shaped
from torch import Tensor


def grown(values: Shaped[Tensor, "..."], size: Sequence[int]) -> Shaped[Tensor, "..."]:
    """The values, and behind them zeros (False in a mask) along each axis that is shorter than the size.

    Args:
        values: what is there.
        size: of each axis, none smaller than it is.
    """
    found = values.new_zeros(tuple(size))
    found[tuple(slice(length) for length in values.shape)] = values
    return found


def largest(arrays: Sequence[Shaped[Tensor, "..."]]) -> list[int]:
    """The greatest length along each axis of arrays with equally many axes."""
    return [max(array.shape[axis] for array in arrays) for axis in range(arrays[0].ndim)]
