"""The control without inputs: it answers every row of a dataset, or of a kind of question, alike.

Letters: b batch, k outputs.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters.inputs import num_rows
from perceiver.models.model import Model


class Majority(Model):
    """A learned bias for each class of each dataset, and nothing else: trained, it holds the logarithms of the classes' shares of a dataset's rows.

    Args:
        modalities: entries of the batch, which tell how many rows it has. Nothing of their content is read.
        num_outputs: classes.
        num_datasets: of the task. Which one a row belongs to is said by `dataset` (b) in the batch; all belong to the first where it is not there.

    Raises:
        ValueError: when there is not at least one dataset.
    """

    def __init__(self, modalities: Sequence[str], num_outputs: int, *, num_datasets: int = 1) -> None:
        super().__init__()
        if num_datasets < 1:
            raise ValueError(f"num_datasets={num_datasets}: give at least 1")
        self.modalities = tuple(modalities)
        self.num_datasets = num_datasets
        self.bias = nn.Parameter(torch.zeros(num_datasets * num_outputs))  # flat: a matrix would decay in training

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """The same outputs for each row of a dataset.

        Raises:
            ValueError: when the batch holds none of the modalities, so that nobody knows how many rows it has, or a row of a dataset
                that is not known.
        """
        if not (size := num_rows(batch, self.modalities)):
            raise ValueError(f"the batch holds none of {', '.join(self.modalities)}, only {', '.join(batch) or 'nothing'}: check its keys")
        biases = self.bias.unflatten(0, (self.num_datasets, -1))
        if "dataset" not in batch:
            return biases[0].expand(size, -1)
        if bool((wrong := (batch["dataset"] < 0) | (batch["dataset"] >= self.num_datasets)).any()):
            number, last = int(batch["dataset"][wrong][0]), self.num_datasets - 1
            raise ValueError(f"dataset {number} of a row, and num_datasets={self.num_datasets} knows 0 to {last}: give as many as the task has")
        return biases[batch["dataset"]]
