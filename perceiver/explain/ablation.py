"""Ablation: what a model answers when a modality is taken away."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

SUFFIXES = ("", "_length", "_mask")


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
    present = batch.get(f"{modality}_present")
    if present is None:
        present = torch.ones(len(batch[modality]), dtype=torch.bool, device=batch[modality].device)
    return rest | {f"{modality}_present": torch.zeros_like(present)}
