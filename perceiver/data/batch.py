"""Batches: rows that have any subset of the modalities, put together without a payload for what is missing.

A row is a mapping: raw entries by modality (missing ones left out), and what is said of the row as a whole. In the batch

- a modality's entry holds the rows that have it, in their order, padded with zeros along the last axis;
- `<modality>_present` says which rows those are, `<modality>_length` how long each entry was;
- everything else is stacked as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Row = Mapping[str, Any]


def collate(rows: Sequence[Row], modalities: Sequence[str], ragged: Sequence[str] = ()) -> dict[str, Tensor]:
    """A batch of rows.

    Args:
        modalities: keys of raw entries, which a row may lack.
        ragged: those of them whose last axis varies from row to row.

    Raises:
        ValueError: when a row has no modality, or rows differ in the other keys.
    """
    batch: dict[str, Tensor] = {}
    for i, row in enumerate(rows):
        if not any(name in row for name in modalities):
            raise ValueError(f"row {i} of the batch has none of the modalities {', '.join(modalities)}: a row needs at least one")
    for name in modalities:
        entries = [torch.as_tensor(row[name]) for row in rows if name in row]
        batch[f"{name}_present"] = torch.tensor([name in row for row in rows])
        if not entries:
            continue
        if name in ragged:
            lengths = [entry.shape[-1] for entry in entries]
            batch[f"{name}_length"] = torch.tensor(lengths)
            entries = [F.pad(entry, (0, max(lengths) - length)) for entry, length in zip(entries, lengths, strict=True)]
        batch[name] = torch.stack(entries)
    others = {key for row in rows for key in row} - set(modalities)
    for key in sorted(others):
        if missing := [i for i, row in enumerate(rows) if key not in row]:
            raise ValueError(f"{key!r} is missing from rows {missing} of the batch, but others have it")
        batch[key] = torch.stack([torch.as_tensor(row[key]) for row in rows])
    return batch
