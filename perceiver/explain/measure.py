"""Measure: one number of a report, with all that says how far to believe it.

A number alone misleads. Each has how many rows it is made of, how sure it is (a bootstrap interval), what it would be by chance or without
attention, a verdict in words, and what it cost to find out.

Letters: n rows, s draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

Verdict = Literal["ok", "warning", "not applicable"]
DRAWS = 1000
FEW_ROWS = 10  # an interval from fewer rows would be a guess


@dataclass(frozen=True)
class Price:
    """What a measure cost.

    Attributes:
        passes: forward passes over its rows; a forward and a backward pass are three.
        seconds: of wall time.
    """

    passes: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Price") -> "Price":
        return Price(round(self.passes + other.passes, 2), round(self.seconds + other.seconds, 3))


FREE = Price()


@dataclass(frozen=True)
class Measure:
    """One number of a report.

    Attributes:
        name: what is measured.
        value: None where it does not apply.
        n: rows that it is made of.
        interval: bootstrap 95 %; None where there are too few rows, or it is not a mean over rows.
        reference: what it would be by chance, under uniform attention, when shuffled, before training, and so on.
        verdict: ok, warning, or not applicable.
        reason: of the verdict, in one sentence.
        of: of what: a dataset, a modality, a layer.
        price: what it cost.
    """

    name: str
    value: float | None
    n: int
    interval: tuple[float, float] | None = None
    reference: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict = "ok"
    reason: str = ""
    of: Mapping[str, str] = field(default_factory=dict)
    price: Price = Price()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the form that the page takes."""
        found = asdict(self)
        found |= {"of": dict(self.of), "reference": dict(self.reference)} | found.pop("price")
        return found


def not_applicable(name: str, reason: str, *, n: int = 0, of: Mapping[str, str] | None = None) -> Measure:
    """A measure that says why it is none; never zero."""
    return Measure(name, None, n, verdict="not applicable", reason=reason, of=of or {})


@dataclass(frozen=True)
class Diagnosis:
    """One question to a model, its answer in one plain sentence, and the measures that it rests on.

    Attributes:
        key: short name.
        title: the question's name.
        verdict: the worst of what its measures say, or a judgement over them.
        sentence: for someone who has never seen a Perceiver.
        measures: all of them.
    """

    key: str
    title: str
    verdict: Verdict
    sentence: str
    measures: tuple[Measure, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the form that the page takes."""
        return {**asdict(self), "measures": [measure.as_dict() for measure in self.measures]}


def resamples(rows: int, draws: int = DRAWS) -> Int[Tensor, "s n"]:
    """Rows of each bootstrap draw, with replacement; the same ones each time, so that measures of the same rows can be compared."""
    return torch.randint(rows, (draws, rows), generator=torch.Generator().manual_seed(0))


def bootstrap(
    values: Shaped[Tensor, "n ..."], statistic: Callable[[Tensor], Tensor] | None = None, *, draws: int = DRAWS, about: float | None = None
) -> tuple[float, float] | None:
    """The interval that holds 95 % of a statistic over rows drawn anew (Efron 1979, percentiles).

    Args:
        values: by row.
        statistic: from rows to one number; their mean when not given, which is one number where a row is one.
        draws: number of resamples.
        about: what the statistic of the rows themselves is. With it, what the draws are off by in the mean is taken from them: a statistic with an
            absolute value in it is larger in resamples than in the rows, so that its plain percentiles may all lie above it.

    Returns:
        Low and high end; None with fewer than 10 rows.
    """
    if len(values) < FEW_ROWS:
        return None
    picks = resamples(len(values), draws)
    if statistic is None:
        found = values.double()[picks].mean(1)
    else:
        found = torch.stack([statistic(values[pick]) for pick in picks]).double()
    if about is not None:
        found = found - found.mean() + about
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=found.dtype)).tolist()
    return low, high


def worst(verdicts: list[Verdict]) -> Verdict:
    """A warning if there is one; not applicable if there is nothing else."""
    for verdict in ("warning", "ok"):
        if verdict in verdicts:
            return verdict
    return "not applicable"
