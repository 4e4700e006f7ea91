"""Presence: which rows of a batch have a modality, the same batch without it, and some of its rows."""

from collections.abc import Collection, Iterable, Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

SUFFIXES = ("", "_length", "_mask")


def presence(batch: Mapping[str, Tensor], modality: str) -> Bool[Tensor, " B"]:
    """Which rows have a modality.

    Raises:
        ValueError: when the batch does not have the modality.
    """
    if f"{modality}_present" in batch:
        return batch[f"{modality}_present"]
    if modality not in batch:
        raise ValueError(f"nothing is known of {modality!r}: the batch holds {', '.join(batch)}")
    return torch.ones(len(batch[modality]), dtype=torch.bool, device=batch[modality].device)


def removable(batch: Mapping[str, Tensor], modalities: Collection[str]) -> list[str]:
    """The modalities of a batch that can be taken away: not the only one, and not one whose own content is asked for (`<modality>_target`)."""
    return [name for name in modalities if len(modalities) > 1 and f"{name}_target" not in batch]


def without(batch: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """The same batch in which no row has the modality: its entry is gone, and its presence vector says so.

    Raises:
        ValueError: when the batch does not have the modality.
    """
    if modality not in batch and f"{modality}_present" not in batch:
        raise ValueError(f"{modality!r} cannot be taken away: the batch holds {', '.join(batch)}")
    rest = {key: value for key, value in batch.items() if key not in [modality + suffix for suffix in SUFFIXES]}
    return rest | {f"{modality}_present": torch.zeros_like(presence(batch, modality))}


def without_all(batch: Mapping[str, Tensor], modalities: Iterable[str]) -> dict[str, Tensor]:
    """The same batch in which no row has any of some modalities; those that it does not have are no matter."""
    for modality in modalities:
        if modality in batch or f"{modality}_present" in batch:
            batch = without(batch, modality)
    return dict(batch)


def row_count(batch: Mapping[str, Tensor]) -> int:
    """Rows of a batch: that of its presence vectors, or of its entries where there are none; 0 for a batch without either."""
    present = [len(value) for key, value in batch.items() if key.endswith("_present")]
    return present[0] if present else max((len(value) for value in batch.values() if isinstance(value, Tensor) and value.ndim), default=0)


def some_rows(batch: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Some rows of a batch, with the entries of the modalities that they have; what does not belong to rows stays as it is."""
    size = row_count(batch)
    found = dict(batch)
    for key, value in batch.items():
        modality = next((key.removesuffix(suffix) for suffix in SUFFIXES[1:] if key.endswith(suffix) and key.removesuffix(suffix) in batch), key)
        present = batch.get(f"{modality}_present")
        if present is not None and modality in batch and key != f"{modality}_present" and len(batch[modality]) == int(present.sum()) != size:
            start = int(present[: rows.start or 0].sum())
            found[key] = value[start : start + int(present[rows].sum())]
        elif isinstance(value, list) or isinstance(value, Tensor) and value.ndim:
            found[key] = value[rows] if len(value) == size else value
    return found
