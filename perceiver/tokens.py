"""Tokens: what an adapter hands to the trunk, and all that the trunk ever knows of a modality.

A token is data beside a position, `concat(features, position, constant)`, then, in a fused model, one linear map into the
width that all modalities share, and then the norm of whoever reads it. The parts stay apart until someone asks for
`dense()`: positions on a grid are a few small per-axis tables, and copying them to every place of a 224 x 224 picture is
what most implementations spend their memory on. Attention to a large grid never asks (`perceiver.grid_attention`).

Letters: B rows of the batch, b rows that have the modality, m tokens, c channels.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.positions import Positions

LARGE_GRID = 1024  # tokens
LONG_AXIS = 8192
LITTLE_DATA = 64  # channels


@dataclass(frozen=True)
class Tokens:
    """Tokens of one modality, for those rows of a batch that have it.

    Attributes:
        features: the part that depends on the data.
        grid: how the m tokens lie: (rows, columns) of a picture, (time,) of a sound; its product is m.
        positions: where each token stands, shared by all rows; None when the features say it already.
        mask: True = may be attended; None when every token may.
        rows: which rows of the batch these are; None when all rows have the modality.
        project: maps `concat(features, position, constant)` to the trunk's width; None when they have it already.
        constant: channels behind the position that are the same for all tokens; None for none.
        norm: is applied to what comes out; None for none.
        places: which places of the positions' grid these tokens have, counted with the last axis fastest; None when they have all, in order.
        apart: what they were before their parts were joined; None when these are the parts.
    """

    features: Float[Tensor, "b m c"]
    grid: tuple[int, ...]
    positions: Positions | None = None
    mask: Bool[Tensor, "b m"] | None = None
    rows: Int[Tensor, " b"] | None = None
    project: nn.Linear | None = None
    constant: Float[Tensor, " k"] | None = None
    norm: nn.LayerNorm | None = None
    places: Int[Tensor, " m"] | None = None
    apart: "Tokens | None" = None

    @property
    def in_parts(self) -> bool:
        """Whether attention had better take these tokens apart than join them: many of them on a grid, each with little data of its own.

        Along a single axis, of which all weights are held, there must not be too many.
        """
        return (
            self.positions is not None
            and self.places is None
            and self.features.shape[1] >= LARGE_GRID
            and (len(self.positions.axes) > 1 or self.features.shape[1] <= LONG_AXIS)
            and self.features.shape[2] <= LITTLE_DATA
            and (self.norm is None or type(self.norm) is nn.LayerNorm)
        )

    @property
    def asks_in_parts(self) -> bool:
        """Whether queries had better be made of these tokens in parts than one by one: their positions are fewer than they are, along all axes."""
        return (
            self.positions is not None
            and self.rows is None
            and sum(len(table) for table in self.positions.axes) <= self.features.shape[1]
            and (self.norm is None or type(self.norm) is nn.LayerNorm)
        )

    def some(self, which: slice) -> "Tokens":
        """Some of the tokens, by themselves."""
        places = torch.arange(self.features.shape[1], device=self.features.device) if self.places is None else self.places
        features, mask, places = self.features[:, which], None if self.mask is None else self.mask[:, which], places[which]
        apart = None if self.apart is None else self.apart.some(which)
        return replace(self, features=features, mask=mask, places=places, grid=(len(places),), apart=apart)

    def blank(self) -> "Tokens":
        """One row of tokens with zeros for data: what is left says where each stands and of which modality it is, whatever the input.

        Where an adapter has mixed place and data (its tokens have no positions), all its tokens are alike.
        """
        features = torch.zeros_like(self.features[:1]) if self.apart is None else self.apart.blank().dense().features
        return replace(self, features=features, mask=None, rows=None, apart=None)

    def dense(self) -> "Tokens":
        """The same tokens with all parts joined, projected and normed: plain features that a linear map can take.

        Features behind the mask are zeroed first, so that nothing that lies there reaches a value or a gradient.

        A projection is applied to the data and to each per-axis table by itself, and the results are added: what comes
        out is `project(concat(features, position, constant))`, but the position channels are never copied to every token.
        """
        features = self.features
        if self.mask is not None:
            features = features.masked_fill(~self.mask[..., None], 0)
        joined = self._beside(features) if self.project is None else self._projected(features, self.project)
        if self.norm is not None:
            joined = self.norm(joined)
        return replace(self, features=joined, positions=None, constant=None, project=None, norm=None, places=None, apart=self)

    def _beside(self, features: Float[Tensor, "b m c"]) -> Float[Tensor, "b m d"]:
        """Features, positions and constant channels side by side."""
        parts = [features]
        if self.positions is not None:
            positions = self.positions.dense() if self.places is None else self.positions.at(self.places)
            parts.append(positions.to(features.dtype).expand(len(features), -1, -1))
        if self.constant is not None:
            parts.append(self.constant.to(features.dtype).expand(*features.shape[:2], -1))
        return torch.cat(parts, -1) if len(parts) > 1 else features

    def _projected(self, features: Float[Tensor, "b m c"], project: nn.Linear) -> Float[Tensor, "b m d"]:
        """The same, mapped to another width part by part."""
        data, positions, constant = self.columns(project.weight)
        projected = F.linear(features, data, project.bias)
        if self.positions is not None:
            projected = projected + self.positions.projected(positions, self.places)
        return projected if self.constant is None else projected + constant @ self.constant

    def columns(self, weight: Shaped[Tensor, "d c"]) -> tuple[Shaped[Tensor, "d _"], Shaped[Tensor, "d _"], Shaped[Tensor, "d _"]]:
        """The columns of a weight that meet the features, the positions and the constant channels."""
        widths = [self.features.shape[-1], 0 if self.positions is None else self.positions.width, 0 if self.constant is None else len(self.constant)]
        data, positions, constant = weight.split(widths, -1)
        return data, positions, constant

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
