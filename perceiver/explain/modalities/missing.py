"""Missing modalities: how the accuracy falls as modalities go missing more and more often.

Each modality in question goes missing from each row by itself, with a probability that is the rate. Where a row would lose all that it has, one of
its modalities stays, each equally likely: the rule of `perceiver.ModalityDropout`. No row is drawn: since the answer to every set of modalities is
known, the curve is its expected value, exactly.

Letters: n rows, r rates.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from perceiver.explain.measure import Measure, Verdict, bootstrap
from perceiver.explain.modalities.coalitions import Coalition, Coalitions
from perceiver.explain.right import majority, right, right_when_shuffled
from perceiver.explain.wording import few, listed, side

AREA = "area under the missing-modality curve"
RATES = torch.linspace(0, 1, 11, dtype=torch.double)


def curve(found: Coalitions, values: Mapping[Coalition, Float[Tensor, " n"]], missing: Coalition) -> Float[Tensor, "n r"]:
    """What each row can be expected to score at the rates 0, 0.1, ... 1.

    Args:
        found: which rows have what.
        values: the score of each row by set, as of `Coalitions.values`.
        missing: modalities that go missing; the others stay.
    """
    result = torch.zeros(len(found), len(RATES), dtype=torch.double)
    for has, rows in patterns(found).items():
        at_stake = sorted(missing & has)
        for gone in (frozenset(names) for size in range(len(at_stake) + 1) for names in combinations(at_stake, size)):
            chance = RATES ** len(gone) * (1 - RATES) ** (len(at_stake) - len(gone))
            left = [has - gone]
            if not left[0] and has and not found.kept:
                left = [frozenset((name,)) for name in sorted(has)]
            result[rows] += torch.stack([values[some][rows] for some in left]).double().mean(0)[:, None] * chance
    return result


def patterns(found: Coalitions) -> dict[Coalition, Bool[Tensor, " n"]]:
    """The rows that have a set of players and no other, by that set."""
    result: dict[Coalition, Tensor] = {}
    for row in range(len(found)):
        has = frozenset(name for name in found.players if found.present[name][row])
        result.setdefault(has, torch.zeros(len(found), dtype=torch.bool))[row] = True
    return result


def area(curves: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
    """Under the curve of each row, by trapezoids: the score expected when any rate is as likely as another."""
    return torch.trapezoid(curves, RATES, dim=1)


def measures(found: Coalitions) -> list[Measure]:
    """The area for each modality that goes missing, and for each set of them that do, over the rows that have any of them.

    Nothing is asked beyond `found`, whose price they have, as all that is made of the same answers.

    Args:
        found: answers of every set.
    """
    if found.obstacle:
        return found.without_measures(AREA)
    values = found.values(right)
    sets = [names for size in range(1, len(found.players) + 1) for names in combinations(found.players, size)]
    return [_area(found, values, names) for names in sets] + found.kept_measures(AREA)


def _area(found: Coalitions, values: Mapping[Coalition, Float[Tensor, " n"]], names: tuple[str, ...]) -> Measure:
    rows = torch.stack([found.present[name] for name in names]).any(0)
    count = int(rows.sum())
    curves = curve(found, values, frozenset(names))[rows]
    under = area(curves)
    value, (full, half, last) = float(under.mean()), curves.mean(0)[[0, len(RATES) // 2, -1]].tolist()
    common, chance = majority(found.target[rows], found.classes), 1 / found.classes
    reference = {"with everything": full, "half missing": half, "all missing": last, "chance": chance, "majority": common}
    if full > 0:
        reference["relative to everything"] = value / full
    if full > common:
        reference["kept above the commonest class"] = (value - common) / (full - common)
    interval = bootstrap(under)
    blind = curve(found, found.values(right_when_shuffled), frozenset(names))[rows]
    reference["all missing, shuffled label"] = float(blind[:, -1].mean())
    below = side(bootstrap(curves[:, -1] - blind[:, -1])) < 0
    said = f"{100 * full:.0f} % right; {100 * half:.0f} % when {listed(names)} {_go(names)} missing from half of the rows"
    said += f", and {100 * last:.0f} % from all"
    if len(names) == len(found.players) and not found.kept:
        said += " but for one at random"
    if below:
        said += ", which is less than the same answers get under shuffled labels: the model is misled when something is missing"
    verdict: Verdict = "warning" if below else "ok"
    return Measure(AREA, value, count, interval, reference, verdict, few(count) if interval is None else said, found.of(*names), found.price)


def _go(names: tuple[str, ...]) -> str:
    return "goes" if len(names) == 1 else "go, each by itself,"
