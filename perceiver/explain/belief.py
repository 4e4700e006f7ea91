"""Belief: may the picture of attention be believed? Attention is set beside what was measured without looking at it.

Two modalities of a kind of question are compared where their worths (Shapley values of accuracy) differ for sure: does attention give more to the one
that is worth more? More for its share of the pieces, that is (lift): a picture may have a hundred pieces for each byte of a question, and gets more
of the attention by that alone. Mass is not use: a modality that is looked at and ignored, and one that is hardly looked at and decides, are named.

Letters: none; numbers come from measures that are there already.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from perceiver.explain.faithfulness.diagnosis import Trial
from perceiver.explain.measure import Measure, Verdict
from perceiver.explain.modalities.shapley import VALUE
from perceiver.explain.wording import listed

AGREE = 0.8  # of the comparisons, from which the picture may be believed
FEWEST = 3  # comparisons; one alone agrees in half of all cases by chance


class Belief(NamedTuple):
    """An answer to the question.

    Attributes:
        verdict: ok = believe large differences; warning = do not; not applicable = it could not be checked.
        sentence: the same in words.
        agreements: comparisons in which attention and worth go together.
        comparisons: all.
    """

    verdict: Verdict
    sentence: str
    agreements: int
    comparisons: int


class Modality(NamedTuple):
    """One modality in one dataset: what it is worth, and what attention makes of it."""

    dataset: str
    name: str
    worth: Measure
    mass: float
    even: float

    @property
    def lift(self) -> float:
        """Mass over share of the pieces."""
        return self.mass / self.even if self.even else 0.0


def modalities(measures: Sequence[Measure]) -> list[Modality]:
    """Those that have both a worth with an interval, and mass; the mass is the mean over the reads."""
    found = []
    for worth in measures:
        if worth.name != VALUE or worth.interval is None:
            continue
        dataset, name = worth.of["dataset"], worth.of["modality"]
        mass = [m for m in measures if m.name == "mass" and m.value is not None and (m.of["dataset"], m.of["modality"]) == (dataset, name)]
        if mass:
            even = sum(m.reference["uniform"] for m in mass) / len(mass)
            found.append(Modality(dataset, name, worth, sum(m.value or 0.0 for m in mass) / len(mass), even))
    return found


def belief(measures: Sequence[Measure], trials: Mapping[str, Trial]) -> Belief:
    """Judges the picture of attention by measures of a report, and by what became of the explanations.

    Args:
        measures: of datasets that share no rows, since no row should count twice.
        trials: explanations that were tested.
    """
    found = modalities(measures)
    pairs = [sorted(pair, key=lambda m: m.worth.value or 0.0) for pair in combinations(found, 2) if _apart(*pair)]
    agreements = [(less, more) for less, more in pairs if more.lift > less.lift]
    odd = [_odd(less, more) for less, more in pairs if more.lift <= less.lift]
    maps = _maps(trials)
    if not pairs:
        said = "Attention cannot be checked against worth here: no two modalities of one kind of question are worth clearly different amounts."
        return Belief("not applicable", f"{said} {maps}".strip(), 0, 0)
    if len(pairs) < FEWEST:
        count = f"{len(pairs)} comparison{' is' if len(pairs) == 1 else 's are'}"
        said = f"Attention cannot be checked against worth here: {count} too few, and it takes {FEWEST}."
        return Belief("not applicable", f"{said} {maps}".strip(), len(agreements), len(pairs))
    share = len(agreements) / len(pairs)
    said = "For its share of the pieces, attention gives more to the modality that is worth more in "
    said += f"{len(agreements)} of {len(pairs)} comparisons"
    said += f"; it does not for {listed(odd[:3])}" + (f" and {len(odd) - 3} more." if len(odd) > 3 else ".") if odd else "."
    verdict: Verdict = "ok" if share >= AGREE and any(trial.passed for trial in trials.values()) else "warning"
    advice = (
        "Believe large differences, not small ones." if verdict == "ok" else "Do not take attention for importance here; look at what each is worth."
    )
    return Belief(verdict, f"{said} {maps} {advice}".replace("  ", " "), len(agreements), len(pairs))


def _apart(a: Modality, b: Modality) -> bool:
    """Whether two modalities of one dataset are worth clearly different amounts."""
    if a.dataset != b.dataset or a.worth.interval is None or b.worth.interval is None:
        return False
    return a.worth.interval[1] < b.worth.interval[0] or b.worth.interval[1] < a.worth.interval[0]


def _odd(less: Modality, more: Modality) -> str:
    worth, other = (round(100 * (m.worth.value or 0.0)) for m in (more, less))
    return (
        f"{more.dataset} ({more.name} is worth {worth} points and gets {100 * more.mass:.0f} % of the attention, {more.lift:.1f} times its share; "
        f"{less.name} {other} and {100 * less.mass:.0f} %, {less.lift:.1f} times)"
    )


def _maps(trials: Mapping[str, Trial]) -> str:
    """What the tests of maps say in short."""
    told = [trial for trial in trials.values() if trial.passed or trial.failed]
    if not told:
        return ""
    good = [trial for trial in told if not trial.failed]
    return f"{len(good)} of {len(told)} ways to mark the pieces behind an answer are better than chance for every kind of question."
