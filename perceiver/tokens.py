"""Tokens: what an adapter hands to the trunk, and all that the trunk ever knows of a modality.

A token is data beside a position, `concat(features, position)`, and then, in a fused model, one linear map into the
width that all modalities share. The three parts stay apart until someone asks for `dense()`: positions on a grid are a
few small per-axis tables, and copying them to every place of a 224 x 224 picture is what most implementations spend
their memory on.

Letters: B rows of the batch, b rows that have the modality, m tokens, c channels.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.positions import Positions


@dataclass(frozen=True)
class Tokens:
    """Tokens of one modality, for those rows of a batch that have it.

    Attributes:
        features: the part that depends on the data.
        grid: how the m tokens lie: (rows, columns) of a picture, (time,) of a sound; its product is m.
        positions: where each token stands, shared by all rows; None when the features say it already.
        mask: True = may be attended; None when every token may.
        rows: which rows of the batch these are; None when all rows have the modality.
        project: maps `concat(features, position)` to the trunk's width; None when they have it already.
    """

    features: Float[Tensor, "b m c"]
    grid: tuple[int, ...]
    positions: Positions | None = None
    mask: Bool[Tensor, "b m"] | None = None
    rows: Int[Tensor, " b"] | None = None
    project: nn.Linear | None = None

    def dense(self) -> "Tokens":
        """The same tokens with data and position joined (and projected): plain features that a norm or a linear map can take.

        Features behind the mask are zeroed first, so that nothing that lies there reaches a value or a gradient.

        A projection is applied to the data and to each per-axis table by itself, and the results are added: what comes
        out is `project(concat(features, position))`, but the position channels are never copied to every token.
        """
        features = self.features
        if self.mask is not None:
            features = features.masked_fill(~self.mask[..., None], 0)
        if self.project is None:
            if self.positions is not None:
                tables = self.positions.dense().to(features.dtype).expand(len(features), -1, -1)
                features = torch.cat([features, tables], -1)
            return replace(self, features=features, positions=None)
        width = features.shape[-1]
        weight = self.project.weight
        projected = F.linear(features, weight[:, :width], self.project.bias)
        if self.positions is not None:
            projected = projected + self.positions.projected(weight[:, width:])
        return replace(self, features=projected, positions=None, project=None)

    def to_batch(self, x: Shaped[Tensor, "b ..."], batch: int) -> Shaped[Tensor, "B ..."]:
        """Puts one entry a row of these tokens into its place in the whole batch; rows without the modality read zero."""
        if self.rows is None:
            return x
        return x.new_zeros(batch, *x.shape[1:]).index_copy(0, self.rows, x)

    def attendable(self, batch: int) -> Bool[Tensor, "B m"]:
        """Which tokens each row of the whole batch may attend to; all False in a row without the modality."""
        mask = self.mask
        if mask is None:
            mask = torch.ones(self.features.shape[:2], dtype=torch.bool, device=self.features.device)
        return self.to_batch(mask, batch)


def lengths_to_mask(lengths: Int[Tensor, " b"], size: int) -> Bool[Tensor, "b t"]:
    """True for the first `lengths[i]` of `size` places in row i."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
