"""Streaming: a mixture of datasets of which some live in remote shards.

A step still holds what the seed and its number say, whatever the numbers of workers, ranks and machines, and resuming is as
exact as without shards. What differs is the order: shard by shard, in another order of shards and of their rows in each pass, so that a
machine needs the shards of a dataset one after another rather than all at once. Rows that lie in one shard come close together;
`write_shards` shuffles training rows before it cuts them into shards, so that a shard is a random part of the dataset.

Its limits:

- Each machine fetches each shard: a step's rows are spread over all ranks. With `cache_bytes` it does so again in each pass.
- A shard is fetched whole when its first row is asked for. Workers run ahead by two batches each, and a shard that takes longer
  than that stops the training until it is there: more workers, or smaller shards, hide it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceiver.data.mixture.datamodule import MixedDataModule
from perceiver.data.mixture.order import Mixture, shares
from perceiver.data.mixture.shards import ShardRows
from perceiver.data.permutation import key_of, permute


class ShardMixture(Mixture):
    """Rows of any step, shard by shard.

    Args:
        shards: rows of each shard of each dataset.
        probabilities, batch_size, rows_per_dataset, seed: see `Mixture`.
    """

    def __init__(
        self, shards: Mapping[str, Sequence[int]], probabilities: Mapping[str, float], *, batch_size: int, rows_per_dataset: int, seed: int
    ) -> None:
        sizes = {name: sum(rows) for name, rows in shards.items()}
        super().__init__(sizes, probabilities, batch_size=batch_size, rows_per_dataset=rows_per_dataset, seed=seed)
        self.shards = [np.array(rows, dtype=np.int64) for rows in shards.values()]

    def order(self, dataset: int, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows at some places of a pass over a dataset: the shards are shuffled, and then the rows of each."""
        sizes = self.shards[dataset]
        shards = permute(np.arange(len(sizes)), len(sizes), key_of(self.seed, dataset, epoch))
        ends = np.cumsum(sizes[shards])
        turns = np.searchsorted(ends, places, side="right")
        rows = np.zeros_like(places)
        for turn in np.unique(turns):
            here, shard = turns == turn, int(shards[turn])
            inside = places[here] - (ends[turn] - sizes[shard])
            rows[here] = sizes[:shard].sum() + permute(inside, int(sizes[shard]), key_of(self.seed, dataset, epoch, shard))
        return rows


class StreamingMixture(MixedDataModule):
    """Batches out of any number of datasets, of which some live in `perceiver.data.mixture.shards.Shards`.

    Arguments, batches and promises are those of `MixedDataModule`: it resumes exactly at any step, with any number of workers. A checkpoint
    is refused when its shards were others, also when they have as many rows. A dataset that is not in shards is shuffled as a whole.
    """

    def mixture(self) -> ShardMixture:
        """Which rows each step draws."""
        members = {member.name: member.rows for member in self.members("train")}
        sizes = {name: len(rows) for name, rows in members.items()}
        probabilities = shares(sizes, {name: stream.weight for name, stream in self.datasets.items()}, self.alpha)
        shards = {name: rows.sizes.tolist() if isinstance(rows, ShardRows) else [len(rows)] for name, rows in members.items()}
        return ShardMixture(shards, probabilities, batch_size=self.batch_size, rows_per_dataset=self.rows_per_dataset, seed=self.seed)

    def _plan(self) -> dict[str, Any]:
        digests = {member.name: member.rows.digest for member in self.members("train") if isinstance(member.rows, ShardRows)}
        return super()._plan() | {"shards": digests}
