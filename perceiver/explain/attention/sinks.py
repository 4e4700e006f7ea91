"""Sinks: keys that draw much of a head's attention whatever the row (Gu et al. 2024, "When Attention Sink Emerges in Language Models").

What a key gets of a head is averaged over queries and rows first: a head that is sharp, but at another place in each row, has no sink.

Letters: n rows, b rows of a batch, h heads, m keys of all segments side by side, c candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from perceiver.explain.attention.statistics import Statistics
from perceiver.explain.attention.survey import LayerSurvey
from perceiver.explain.measure import bootstrap
from perceiver.explain.padding import grown

SINK = 0.3  # of a head's attention, on one key
TIMES = 2.0  # an even share, which with few keys is much by itself
CANDIDATES = 4  # keys of each head that resampled rows may make a sink of


@dataclass(frozen=True)
class Sink:
    """One key that is a sink of some head.

    Attributes:
        segment: whose token it is.
        place: which of its tokens.
        mass: the most that a head gives it, mean over all rows; rows that lack it count as nothing.
        carried: how long what it gives is beside the mean key.
    """

    segment: str
    place: int
    mass: float
    carried: float


@dataclass(frozen=True)
class Columns:
    """What each key of a read gets, mean over rows.

    Attributes:
        sizes: keys of each segment, in order; as many as the row that has most.
        received: of each head.
        even: its share if all keys of a row got the same.
        carried: how long what it gives is beside the mean key of a row, mean over the rows that have it.
    """

    sizes: Mapping[str, int]
    received: Float[Tensor, "h m"]
    even: Float[Tensor, " m"]
    carried: Float[Tensor, " m"]

    @property
    def over(self) -> Bool[Tensor, "h m"]:
        """Which keys are a sink of which head."""
        return is_sink(self.received, self.even)

    @property
    def rate(self) -> float:
        """The share of the heads whose own largest key is a sink."""
        return float(self.over.any(1).float().mean())

    def sinks(self) -> list[Sink]:
        """All keys that are a sink of some head, the largest first."""
        most = self.received.masked_fill(~self.over, 0).amax(0)
        found = []
        for key in most.argsort(descending=True)[: int((most > 0).sum())].tolist():
            place = key
            for segment, size in self.sizes.items():
                if place < size:
                    found.append(Sink(segment, place, float(most[key]), float(self.carried[key])))
                    break
                place -= size
        return found


def is_sink(received: Float[Tensor, "*h m"], even: Float[Tensor, "#*h m"]) -> Bool[Tensor, "*h m"]:
    """More than 0.3 of all attention, and more than twice an even share."""
    return received > (TIMES * even).clamp_min(SINK)


def columns(one: LayerSurvey) -> Columns:
    """What each key gets, over all rows."""
    sizes = {name: max(part.sizes.get(name, 0) for part in one.parts) for name in one.segments}
    rows = sum(len(part.valid) for part in one.parts)
    received = torch.stack([_aligned(part.received.sum(0), part, sizes) for part in one.parts]).sum(0)
    even = torch.stack([_aligned(_even(part).sum(0), part, sizes) for part in one.parts]).sum(0)
    carried = torch.stack([_aligned(part.carried.sum(0), part, sizes) for part in one.parts]).sum(0)
    owners = torch.stack([_aligned(part.valid.sum(0).float(), part, sizes) for part in one.parts]).sum(0)
    return Columns(sizes, received / rows, even / rows, carried / owners.clamp_min(1))


def rate_interval(one: LayerSurvey, found: Columns) -> tuple[float, float] | None:
    """The bootstrap interval over rows of the share of heads that have a sink, among the four largest keys of each head."""
    largest = (found.received / (TIMES * found.even).clamp_min(SINK)).topk(min(CANDIDATES, found.received.shape[1]), dim=1).indices
    heads = torch.arange(len(largest), device=largest.device)[:, None]
    parts = []
    for part in one.parts:
        received = _aligned(part.received, part, found.sizes)[:, heads, largest]
        even = _aligned(_even(part), part, found.sizes)[:, largest]
        parts.append(torch.stack([received, even], 1))

    def rate(rows: Float[Tensor, "n 2 h c"]) -> Float[Tensor, ""]:
        mean, even = rows.mean(0)
        return is_sink(mean, even).any(1).float().mean()

    return bootstrap(torch.cat(parts).cpu(), rate)


def _even(part: Statistics) -> Float[Tensor, "b m"]:
    """An even share of each row's keys."""
    return part.valid / part.valid.sum(-1, keepdim=True).clamp_min(1)


def _aligned(values: Shaped[Tensor, "*b _"], part: Statistics, sizes: Mapping[str, int]) -> Shaped[Tensor, "*b m"]:
    """One batch's values of all keys, each segment as long as in the longest batch."""
    mine = dict(zip(part.sizes, values.split(list(part.sizes.values()), -1), strict=True))
    shape = values.shape[:-1]
    return torch.cat([grown(mine[name], (*shape, size)) if name in mine else values.new_zeros(*shape, size) for name, size in sizes.items()], -1)
