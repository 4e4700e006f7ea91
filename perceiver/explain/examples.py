"""Examples: a fixed set of rows that all measures of a report are made of, put together in batches with modalities taken away or exchanged.

Letters: n rows, b rows of a batch.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perceiver.data.batch import collate
from perceiver.explain.padding import grown, largest
from perceiver.explain.subject import Batch, Subject

SIDES = ("_present", "_length", "_mask")
ENOUGH = 20  # times as many rows as are wanted, from which the rest of a loader is not read


@dataclass(frozen=True)
class Examples:
    """Rows of one dataset, each as a mapping of what it holds; the entries that it lacks are left out.

    Attributes:
        rows: the rows.
        entries: all that some row may lack or that varies in length: modalities, and targets like them.
        ragged: those of them whose last axis varies.
        dataset: their name.
        spare: a row that has something. A model refuses a batch in which nobody has anything, and answers a row with nothing beside this one.
        batch_size: rows asked at a time.
    """

    rows: tuple[Mapping[str, Tensor], ...]
    entries: tuple[str, ...]
    ragged: tuple[str, ...]
    dataset: str
    spare: Mapping[str, Tensor]
    batch_size: int = 100

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labelled(self) -> bool:
        """Whether each row has a right class."""
        return all("target" in row for row in self.rows)

    @cached_property
    def target(self) -> Int[Tensor, " n"]:
        """The right class of each row."""
        return torch.stack([row["target"].long() for row in self.rows])

    def has(self, modality: str) -> Bool[Tensor, " n"]:
        """Which rows have a modality."""
        return torch.tensor([modality in row for row in self.rows])

    def first(self, rows: int) -> "Examples":
        """The first rows, by themselves."""
        return replace(self, rows=self.rows[:rows])

    def some(self, which: Sequence[int]) -> "Examples":
        """Some rows, by themselves."""
        return replace(self, rows=tuple(self.rows[i] for i in which))

    def widest(self) -> "Examples":
        """Some of the rows, which together are as wide as any batch of them: of each entry, along each axis, one that is longest."""
        places = set()
        for name in self.entries:
            have = [i for i, row in enumerate(self.rows) if name in row]
            axes = range(self.rows[have[0]][name].ndim) if have else ()
            places |= {max(have, key=lambda i, axis=axis, name=name: self.rows[i][name].shape[axis]) for axis in axes}  # type: ignore[misc]
        return self.some(sorted(places) or range(min(1, len(self))))

    def exchanged(self, modality: str, partner: Sequence[int]) -> "Examples":
        """The same rows, each with a modality of another; rows that lack it stay as they are.

        Args:
            modality: that is exchanged.
            partner: for each row, the one whose modality it gets. It must have it, where the row has.
        """
        rows = []
        for row, other in zip(self.rows, partner, strict=True):
            theirs = {key: self.rows[other][key] for key in (modality, f"{modality}_mask") if key in self.rows[other]}
            rows.append({**{key: value for key, value in row.items() if key not in theirs}, **theirs} if modality in row else row)
        return replace(self, rows=tuple(rows))

    def only(self, modalities: Collection[str], of: Collection[str]) -> "Examples":
        """The same rows, with some modalities and no other.

        Args:
            modalities: that stay.
            of: all modalities of the model.
        """
        gone = {f"{name}{side}" for name in of if name not in modalities for side in ("", "_mask")}
        unread = {f"{name}{side}" for name in self.entries if name not in of for side in ("", "_mask")}
        rows = []
        for row in self.rows:  # one that is left with nothing of this has nothing, whatever else it came with
            left = any(name in row for name in modalities)
            rows.append({key: value for key, value in row.items() if key not in gone and (left or key not in unread)})
        return replace(self, rows=tuple(rows))

    def batches(self, device: torch.device | None = None) -> Iterator[tuple[dict[str, Tensor], int]]:
        """All rows in their order, some at a time, and how many they are; behind them stands one that has something, if one of them has nothing."""
        for start in range(0, len(self), self.batch_size):
            rows = self.rows[start : start + self.batch_size]
            more = () if all(any(name in row for name in self.entries) for row in rows) else (self.spare,)
            yield {key: value.to(device) for key, value in joined([*rows, *more], self.entries, self.ragged).items()}, len(rows)


def answers(subject: Subject, examples: Examples) -> Float[Tensor, "n k"]:
    """The logarithm of the probability of each class of the examples' dataset, without gradients."""
    with torch.no_grad():
        found = [subject.scores(batch)[:count].cpu() for batch, count in examples.batches(subject.device)]
    return torch.cat(found)[:, : subject.class_count(examples.dataset)]


def pooled(examples: Mapping[str, Examples], name: str) -> Examples:
    """Rows of all datasets under one name, as many as each has by itself on average, equally many of each, in turns."""
    some = list(examples.values())
    each = max(1, sum(map(len, some)) // len(some) ** 2)
    rows = [one.rows[i] for i in range(each) for one in some if i < len(one)]
    entries = tuple(dict.fromkeys(entry for one in some for entry in one.entries))
    ragged = tuple(sorted({entry for one in some for entry in one.ragged}))
    return Examples(tuple(rows), entries, ragged, name, some[0].spare, some[0].batch_size)


def joined(rows: Sequence[Mapping[str, Tensor]], entries: Sequence[str], ragged: Sequence[str]) -> dict[str, Tensor]:
    """A batch of rows of which at least one has something. Unlike `collate`, it allows others with nothing at all, and masks. Entries that come with
    a mask may differ in size along any axis: what they are padded with lies behind the mask, and needs no `_length` beside it."""
    masks = [f"{name}_mask" for name in entries]
    spare, filled = next((name, row[name]) for row in rows for name in entries if name in row)
    empty = [i for i, row in enumerate(rows) if not any(name in row for name in entries)]
    kept = [{key: value for key, value in row.items() if key not in masks} | ({spare: filled} if i in empty else {}) for i, row in enumerate(rows)]
    for name in entries:
        if name not in ragged and f"{name}_mask" in {key for row in rows for key in row}:
            size = largest([row[name] for row in kept if name in row])
            kept = [row | {name: grown(row[name], size)} if name in row else row for row in kept]
    batch = collate(kept, entries, ragged)
    if empty:
        owners = batch[f"{spare}_present"].nonzero().flatten().tolist()
        stay = torch.tensor([k for k, row in enumerate(owners) if row not in empty])
        for key in (spare, f"{spare}_length"):
            if key in batch:
                batch[key] = batch[key][stay]
        batch[f"{spare}_present"][empty] = False
    for key in masks:
        given = [row[key] for row in rows if key in row]
        if given:
            batch[key] = torch.stack([grown(mask, largest(given)) for mask in given])
    return batch


def taken_apart(batch: Batch, modalities: Sequence[str]) -> tuple[list[dict[str, Tensor]], list[str], list[str]]:
    """The rows of a batch, its entries that rows may lack, and those of them that vary in length."""
    entries = list(dict.fromkeys([*modalities, *(key.removesuffix("_present") for key in batch if key.endswith("_present"))]))
    sides = {name + side for name in entries for side in SIDES}
    size = next(len(batch[key]) for name in entries for key in (f"{name}_present", name) if key in batch)
    rows: list[dict[str, Tensor]] = [{} for _ in range(size)]
    for name in entries:
        if name not in batch:
            continue
        present = batch.get(f"{name}_present", torch.ones(size, dtype=torch.bool))
        owners = present.nonzero().flatten().tolist()
        places = owners if len(batch[name]) == size else range(len(owners))
        for row, place in zip(owners, places, strict=True):
            length = batch.get(f"{name}_length")
            entry = batch[name][place]
            rows[row][name] = entry if length is None else entry[..., : int(length[place])]
            if f"{name}_mask" in batch:
                rows[row][f"{name}_mask"] = batch[f"{name}_mask"][place]
    for key, value in batch.items():
        if key not in entries and key not in sides and isinstance(value, Tensor) and value.ndim and len(value) == size:
            for row, entry in zip(rows, value, strict=True):
                row[key] = entry
    return rows, entries, [name for name in entries if f"{name}_length" in batch]


def gather(subject: Subject, loader: Iterable[Batch], rows: int, *, batch_size: int = 100, seed: int = 0) -> dict[str, Examples]:
    """Rows of each dataset that count, drawn at random, by its name. Of a test set that is sorted by its labels, the first ones would not do.

    Args:
        subject: the model, which knows the datasets.
        loader: gives batches; it is read to its end, or until 20 times as many rows of each dataset have come by.
        rows: of each dataset at most.
        batch_size: rows asked at a time later.
        seed: of the draw.

    Raises:
        ValueError: when the loader gives no row, or a row of a dataset that the model does not know.
    """
    draw = random.Random(seed)
    found: dict[int | None, list[dict[str, Tensor]]] = {}
    seen: dict[int | None, int] = {}
    entries: list[str] = []
    ragged: set[str] = set()
    for batch in loader:
        some, names, varies = taken_apart({key: value.cpu() for key, value in batch.items() if isinstance(value, Tensor)}, subject.modalities)
        entries += [name for name in names if name not in entries]
        ragged |= set(varies)
        for row in some:
            if not bool(row.pop("target_mask", torch.tensor(True))) or not any(name in row for name in subject.modalities):
                continue
            number = int(row["dataset"]) if "dataset" in row else None
            mine = found.setdefault(number, [])
            seen[number] = seen.get(number, 0) + 1
            place = draw.randrange(seen[number])  # each row so far stays with the same probability (Vitter 1985, algorithm R)
            if len(mine) < rows:
                mine.append(row)
            elif place < rows:
                mine[place] = row
        if len(seen) >= len(subject.datasets) and min(seen.values()) >= ENOUGH * rows:
            break
    if not found:
        raise ValueError("the loader gives no row that counts: give one with rows that have a modality of this model, and a target")
    if wrong := [number for number in found if number is not None and not 0 <= number < len(subject.datasets)]:
        raise ValueError(f"dataset {wrong[0]} of a row: the model knows {len(subject.datasets)}, numbered from 0: {', '.join(subject.datasets)}")
    order = sorted(found, key=lambda number: number or 0)
    return {
        (name := subject.datasets[number or 0]): Examples(
            tuple(found[number]), tuple(entries), tuple(sorted(ragged)), name, found[number][0], batch_size
        )
        for number in order
    }
