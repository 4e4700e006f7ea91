"""Tally: losses and right answers by dataset, added up over batches and ranks."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric


class Tally(Metric):
    """Mean loss and share of right answers of each dataset. All ranks add them up alike, whichever datasets they saw.

    Args:
        datasets: names, in the order of their numbers.
    """

    full_state_update = False
    losses: Tensor
    right: Tensor
    rows: Tensor

    def __init__(self, datasets: Sequence[str]) -> None:
        super().__init__()
        self.datasets = tuple(datasets)
        for state in ("losses", "right", "rows"):
            self.add_state(state, torch.zeros(len(self.datasets), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, losses: Float[Tensor, " b"], right: Float[Tensor, " b"], dataset: Int[Tensor, " b"], counts: Bool[Tensor, " b"]) -> None:
        """Adds the rows of a batch that count."""
        number = dataset[counts]
        self.losses.index_add_(0, number, losses[counts].double())
        self.right.index_add_(0, number, right[counts].double())
        self.rows.index_add_(0, number, torch.ones_like(losses[counts], dtype=torch.float64))

    def compute(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean loss and share of right answers, for each dataset that had a row."""
        rows = self.rows.tolist()
        return {name: (self.losses[i] / rows[i], self.right[i] / rows[i]) for i, name in enumerate(self.datasets) if rows[i]}
