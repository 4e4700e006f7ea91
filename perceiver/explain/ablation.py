"""Ablation: what a model answers when a modality is taken away."""

from collections.abc import Mapping

import torch
from torch import Tensor

SUFFIXES = ("", "_length", "_mask")


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
