"""The mixture: which rows a training step draws, as a pure function of (seed, step, rank).

Nothing is remembered between steps, so killing and resuming, other numbers of workers, and other numbers of ranks at the same
global batch cannot change which rows a step holds. Two pieces make that possible:

- The dataset of the k-th group of rows comes from a Weyl sequence (multiples of the golden ratio, modulo 1), which is cut
  into one interval a dataset, as wide as its share. Unlike independent draws it gives each dataset its share to within a few
  groups at any time, not only in the long run.
- Within a dataset, pass p over its rows is a keyed permutation, so each row comes once in each pass.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perceiver.data.permutation import key_of, permute

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
CHUNK = 4096  # groups whose datasets are worked out together


class Draw(NamedTuple):
    """One row of a step: dataset and row number, and how often the dataset was gone through before."""

    dataset: int
    row: int
    epoch: int


def shares(sizes: Mapping[str, int], weights: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The share of each dataset, p ~ weight x size^alpha: alpha 0 takes the weights as they are, 1 is by size, between them is a temperature.

    Raises:
        ValueError: when a dataset is empty, or a weight is not positive.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"dataset {name!r} has no rows to train on: leave it out, or check its folder and split")
        if not weights[name] > 0:
            raise ValueError(f"weight={weights[name]} of dataset {name!r}: give a positive weight, or leave it out")
    scores = {name: weights[name] * size**alpha for name, size in sizes.items()}
    total = sum(scores.values())
    return {name: score / total for name, score in scores.items()}


class Mixture:
    """Rows of any step.

    Args:
        sizes: rows of each dataset.
        probabilities: share of each, likewise.
        batch_size: rows of a step, all ranks together.
        rows_per_dataset: rows that come from the same dataset before another is drawn; `batch_size` for one dataset a step.
        seed: another seed, another order.

    Raises:
        ValueError: when `rows_per_dataset` does not divide the batch.
    """

    def __init__(self, sizes: Mapping[str, int], probabilities: Mapping[str, float], *, batch_size: int, rows_per_dataset: int, seed: int) -> None:
        if rows_per_dataset < 1 or batch_size % rows_per_dataset:
            raise ValueError(f"rows_per_dataset={rows_per_dataset} does not divide batch_size={batch_size}: choose a divisor")
        self.sizes = list(sizes.values())
        self.batch_size = batch_size
        self.rows_per_dataset = rows_per_dataset
        self.seed = seed
        edges = np.cumsum([probabilities[name] for name in sizes])[:-1]
        self._edges = np.array([int(edge * 2**64) for edge in edges], dtype=np.uint64)
        self._phase = np.uint64(key_of(seed))
        self._counts = [np.zeros(len(self.sizes), dtype=np.int64)]  # groups of each dataset before each chunk
        self._chunk = lru_cache(maxsize=2)(self._work_out_chunk)

    def draws(self, step: int, rank: int = 0, world_size: int = 1) -> list[Draw]:
        """The rows of one rank at a step; those of all ranks together do not depend on how many there are.

        Raises:
            ValueError: when the batch cannot be shared equally among the ranks.
        """
        if self.batch_size % world_size:
            raise ValueError(f"batch_size={self.batch_size} rows cannot be shared equally among {world_size} ranks: choose a multiple")
        mine = self.batch_size // world_size
        slots = step * self.batch_size + rank * mine + np.arange(mine)
        groups, places = np.divmod(slots, self.rows_per_dataset)
        datasets, before = self._datasets(groups)
        numbers = before * self.rows_per_dataset + places
        epochs = np.zeros(mine, dtype=np.int64)
        rows = np.zeros(mine, dtype=np.int64)
        for dataset in np.unique(datasets):
            size = self.sizes[dataset]
            here = datasets == dataset
            epochs[here] = numbers[here] // size
            for epoch in np.unique(epochs[here]):
                now = here & (epochs == epoch)
                rows[now] = self.order(int(dataset), int(epoch), numbers[now] % size)
        return [Draw(int(d), int(r), int(e)) for d, r, e in zip(datasets, rows, epochs, strict=True)]

    def order(self, dataset: int, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows at some places of a pass over a dataset."""
        return permute(places, self.sizes[dataset], key_of(self.seed, dataset, epoch))

    def _datasets(self, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The dataset of each group, and how many groups it had before."""
        datasets, before = np.zeros_like(groups), np.zeros_like(groups)
        chunks, places = np.divmod(groups, CHUNK)
        for chunk in np.unique(chunks):
            here = chunks == chunk
            chosen, count = self._chunk(int(chunk))
            datasets[here] = chosen[places[here]]
            before[here] = count[places[here]]
        return datasets, before

    def _work_out_chunk(self, chunk: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        while len(self._counts) <= chunk + 1:
            chosen = self._weyl(len(self._counts) - 1)
            self._counts.append(self._counts[-1] + np.bincount(chosen, minlength=len(self.sizes)))
        chosen = self._weyl(chunk)
        before = np.zeros_like(chosen)
        for dataset in range(len(self.sizes)):
            here = chosen == dataset
            before[here] = self._counts[chunk][dataset] + np.arange(int(here.sum()))
        return chosen, before

    def _weyl(self, chunk: int) -> NDArray[np.int64]:
        numbers = np.uint64(chunk * CHUNK) + np.arange(CHUNK, dtype=np.uint64)
        return np.searchsorted(self._edges, self._phase + numbers * GOLDEN, side="right").astype(np.int64)

    def __getstate__(self) -> dict[str, object]:
        """Without the cache, which does not pickle."""
        return {key: value for key, value in vars(self).items() if key != "_chunk"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._chunk = lru_cache(maxsize=2)(self._work_out_chunk)
