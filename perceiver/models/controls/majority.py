"""The control without inputs: it answers every row alike.

Letters: b batch, k outputs.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters.inputs import num_rows
from perceiver.models.model import Model


class Majority(Model):
    """A learned bias for each class, and nothing else: trained, it holds the logarithms of the classes' shares of all training rows.

    Args:
        modalities: entries of the batch, which tell how many rows it has. Nothing of their content is read.
        num_outputs: classes.
    """

    def __init__(self, modalities: Sequence[str], num_outputs: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b k"]:
        """The same outputs for each row.

        Raises:
            ValueError: when the batch holds none of the modalities, so that nobody knows how many rows it has.
        """
        if not (size := num_rows(batch, self.modalities)):
            raise ValueError(f"the batch holds none of {', '.join(self.modalities)}, only {', '.join(batch) or 'nothing'}: check its keys")
        return self.bias.expand(size, -1)
