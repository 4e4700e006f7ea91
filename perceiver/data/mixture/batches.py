"""Batches of a mixture: rows are fetched, bad ones replaced and reported, and all are put together.

A dataset of batches rather than of rows: item k is the whole batch of step k, so that a data worker knows the step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from perceiver.data.augment import Augment
from perceiver.data.batch import collate
from perceiver.data.mixture.order import Draw, Mixture
from perceiver.data.rows import BadSample, Row, Rows
from perceiver.data.source import Split

Report = tuple[Split, str, str, str]  # split, dataset, sample, reason
BAD_SAMPLES = "bad_samples"  # key of a batch's report, which never reaches a model
MOST_IN_A_ROW = 100  # bad samples one after another before a row is given up


@dataclass(frozen=True)
class Member:
    """A dataset of a mixture, in one split.

    Args:
        name: in the mixture.
        split: of the dataset.
        rows: of the split.
        augment: what is done to each of its rows, one after another.
    """

    name: str
    split: Split
    rows: Rows
    augment: Sequence[Augment] = ()

    def fetch(self, index: int, key: tuple[int, ...], bad: list[Report]) -> tuple[Row, int]:
        """A row and its number. In place of one that cannot be decoded, or holds NaN or infinity, comes the next good one; `bad` is told.

        Raises:
            ValueError: when too many in a row cannot.
        """
        for tries in range(MOST_IN_A_ROW):
            number = (index + tries) % len(self.rows)
            draw = np.random.default_rng((*key, number))
            try:
                row = self.rows.row(number, draw)
                for augment in self.augment:
                    row = augment(row, draw)
                check_finite(row, self.rows.name(number))
            except BadSample as error:
                bad.append((self.split, self.name, error.sample, error.reason))
                continue
            return row, number
        raise ValueError(f"{MOST_IN_A_ROW} samples in a row of dataset {self.name!r} cannot be decoded, the last one {bad[-1][2]}: {bad[-1][3]}")


def check_finite(row: Row, sample: str) -> None:
    """Refuses a row with a number that is none, which would spoil every weight it reaches.

    Raises:
        BadSample: naming the entry.
    """
    for entry, value in row.items():
        if isinstance(value, torch.Tensor | np.ndarray) and not bool((numbers := torch.as_tensor(value)).isfinite().all()):
            raise BadSample(sample, f"its {entry} holds {'NaN' if bool(numbers.isnan().any()) else 'infinity'}: mend it, or leave it out")


class Batches(Dataset[dict[str, Any]], ABC):
    """What training and evaluation batches have in common.

    Args:
        members: the datasets, in the order of their numbers.
        entries: raw entries that rows may lack.
        ragged: those of them that vary in length.
        seed: of all that is random in the rows.
    """

    def __init__(self, members: Sequence[Member], entries: Sequence[str], ragged: Sequence[str], seed: int) -> None:
        self.members = members
        self.entries = entries
        self.ragged = ragged
        self.seed = seed

    def put_together(self, rows: Sequence[Row], datasets: Sequence[int], counts: Sequence[bool], bad: Sequence[Report]) -> dict[str, Any]:
        """A batch in which each row knows its dataset and whether it counts: only rows with a target do."""
        complete = []
        for row, dataset, count in zip(rows, datasets, counts, strict=True):
            asked = any(key == "target" or key.endswith("_target") for key in row)
            complete.append({"target": 0} | row | {"dataset": dataset, "target_mask": count and asked})
        batch: dict[str, Any] = dict(collate(complete, self.entries, self.ragged))
        if bad:
            batch[BAD_SAMPLES] = list(bad)
        return batch

    def names(self, item: int) -> list[str]:
        """The rows of an item, for messages."""
        return [f"{self.members[d].name}/{self.members[d].rows.name(i)}" for d, i in self.contents(item)]

    @abstractmethod
    def contents(self, item: int) -> list[tuple[int, int]]:
        """Dataset and row number of each row of an item."""


class TrainBatches(Batches):
    """The batch of each step of a mixture; there is no last one.

    Args:
        members, entries, ragged: see `Batches`.
        mixture: says which rows.
        rank: whose rows these are.
        world_size: number of ranks.
    """

    def __init__(
        self, members: Sequence[Member], entries: Sequence[str], ragged: Sequence[str], mixture: Mixture, *, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(members, entries, ragged, mixture.seed)
        self.mixture = mixture
        self.rank = rank
        self.world_size = world_size

    def draws(self, step: int) -> list[Draw]:
        """What this rank draws at a step."""
        return self.mixture.draws(step, self.rank, self.world_size)

    def contents(self, item: int) -> list[tuple[int, int]]:
        return [(draw.dataset, draw.row) for draw in self.draws(item)]

    def __getitem__(self, step: int) -> dict[str, Any]:
        bad: list[Report] = []
        draws = self.draws(step)
        rows = [self.members[d.dataset].fetch(d.row, (self.seed, d.dataset, d.epoch), bad)[0] for d in draws]
        return self.put_together(rows, [d.dataset for d in draws], [True] * len(rows), bad)


class EvalBatches(Batches):
    """All rows of all datasets once, one dataset a batch, the datasets taking turns.

    A row that cannot be decoded is replaced by one that counts for nothing. Ranks get equally many batches; those
    that are only there to make them equal count for nothing, either. What is random in a row depends on its number alone, so
    that a dataset has the same rows in any mixture.

    Args:
        members, entries, ragged: see `Batches`.
        batch_size: rows of a batch.
        rank: whose batches these are.
        world_size: number of ranks.
    """

    def __init__(
        self, members: Sequence[Member], entries: Sequence[str], ragged: Sequence[str], batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(members, entries, ragged, seed=0)
        turns = [
            (start, dataset, range(start, min(start + batch_size, len(member.rows))))
            for dataset, member in enumerate(members)
            for start in range(0, len(member.rows), batch_size)
        ]
        whole = [(dataset, rows, True) for _, dataset, rows in sorted(turns, key=lambda turn: turn[:2])]
        whole += [(whole[0][0], whole[0][1], False)] * (-len(whole) % world_size)
        self.batches = whole[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def contents(self, item: int) -> list[tuple[int, int]]:
        return [(self.batches[item][0], row) for row in self.batches[item][1]]

    def __getitem__(self, item: int) -> dict[str, Any]:
        bad: list[Report] = []
        dataset, numbers, counts = self.batches[item]
        fetched = [self.members[dataset].fetch(number, (self.seed,), bad) for number in numbers]
        right_ones = [counts and found == asked for (_, found), asked in zip(fetched, numbers, strict=True)]
        return self.put_together([row for row, _ in fetched], [dataset] * len(fetched), right_ones, bad)


def without_report(batch: dict[str, Any]) -> tuple[dict[str, Any], list[Report]]:
    """The batch as a model sees it, and its bad samples."""
    return {key: value for key, value in batch.items() if key != BAD_SAMPLES}, batch.get(BAD_SAMPLES, [])
