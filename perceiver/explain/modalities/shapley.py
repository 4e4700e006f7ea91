"""Shapley values: how much of what a model knows each modality is worth, and which pairs say the same or need one another.

A modality's value is what it adds to a set of others, mean over all orders in which modalities can come (Shapley 1953). The values of all modalities
sum to what the whole is better than nothing. All is exact, and linear in the rows: the value of a dataset is the mean of its rows' values.

Letters: n rows.
"""

from collections.abc import Mapping
from itertools import combinations
from math import factorial

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.explain.measure import Measure, Verdict, bootstrap
from perceiver.explain.modalities.coalitions import Coalition, Coalitions
from perceiver.explain.right import by_chance, class_shares, log_likelihood, majority, right, right_when_shuffled
from perceiver.explain.wording import UNSURE, few, listed, points, side

VALUE, LIKELIHOOD, PAIR, SET = "Shapley value, accuracy", "Shapley value, log-probability", "Shapley interaction, accuracy", "accuracy of a set"
GREEDY = "greedy learning"  # Wu et al. 2022, "Characterizing and Overcoming the Greedy Nature of Learning in Multi-modal Deep Neural Networks"


def shapley(v: Mapping[Coalition, Tensor]) -> dict[str, Tensor]:
    """The value of each player (Shapley 1953): sum over sets S without it of |S|! (K - |S| - 1)! / K! (v(S + m) - v(S)).

    Args:
        v: what each set is worth; a number, or one a row.

    Raises:
        ValueError: when a set is missing.
    """
    players = _players(v)
    count = len(players)
    weights = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    return {m: torch.stack([weights[len(s)] * (v[s | {m}] - v[s]) for s in _sets(players - {m})]).sum(0) for m in sorted(players)}


def interactions(v: Mapping[Coalition, Tensor]) -> dict[Coalition, Tensor]:
    """The Shapley interaction index of each pair (Grabisch and Roubens 1999): what two add together beyond what each adds by itself.

    Sum over sets S without the pair of |S|! (K - |S| - 2)! / (K - 1)! (v(S + a + b) - v(S + a) - v(S + b) + v(S)). Below zero, the two say the same
    and either is enough; above, they need one another.

    Args:
        v: what each set is worth; a number, or one a row.

    Raises:
        ValueError: when a set is missing.
    """
    players = _players(v)
    count = len(players)
    weights = [factorial(size) * factorial(count - size - 2) / factorial(count - 1) for size in range(count - 1)]
    found = {}
    for a, b in combinations(sorted(players), 2):
        terms = [weights[len(s)] * (v[s | {a, b}] - v[s | {a}] - v[s | {b}] + v[s]) for s in _sets(players - {a, b})]
        found[frozenset((a, b))] = torch.stack(terms).sum(0)
    return found


def _players(v: Mapping[Coalition, Tensor]) -> Coalition:
    players = frozenset[str]().union(*v)
    if missing := [s for s in _sets(players) if s not in v]:
        raise ValueError(f"the set {sorted(missing[0])} has no value, and all {2 ** len(players)} sets of {listed(sorted(players))} must have one")
    return players


def _sets(players: Coalition) -> list[Coalition]:
    return [frozenset(names) for size in range(len(players) + 1) for names in combinations(sorted(players), size)]


def measures(found: Coalitions, *, alone: Mapping[str, float] | None = None) -> list[Measure]:
    """The value of each modality in accuracy and in log-probability, of each pair the interaction, and of each set the accuracy.

    Measures that are made of the same answers have the same price.

    Args:
        found: answers of every set.
        alone: accuracy of a model trained on a modality alone, where it is known. It tells greedy learning, in which a modality is left aside
            though there is something in it, from a modality that says nothing.
    """
    if found.obstacle:
        return found.without_measures(VALUE, LIKELIHOOD, PAIR, SET)
    v = found.values(right)
    shuffled = shapley(found.values(right_when_shuffled))
    likelihood, blind = shapley(found.values(log_likelihood)), shapley(found.values(_likelihood_when_shuffled))
    result = []
    for name, phi in shapley(v).items():
        reference = _reference(found, v, name) | {"shuffled label": float(shuffled[name].mean())}
        interval = bootstrap(phi)
        verdict, reason = _judged(found, name, phi, interval, alone or {})
        result.append(Measure(VALUE, float(phi.mean()), len(found), interval, reference, verdict, reason, found.of(name), found.price))
        result.append(_nats(found, name, likelihood[name], {"shuffled label": float(blind[name].mean())}))
    result.sort(key=lambda measure: found.players.index(measure.of["modality"]))
    for pair, both in interactions(v).items():
        result.append(_pair(found, [name for name in found.players if name in pair], both))
    for some, values in v.items():
        names = [name for name in found.players if name in some]
        result.append(_set(found, names, values))
    return result + found.kept_measures(VALUE)


def told_by(found: Coalitions, name: str) -> Float[Tensor, " n"]:
    """The value of a modality in accuracy beyond that of the same answers under shuffled labels, which is what it has by merely being there.

    A model that always says the same, but something else when it is given nothing, has values that no content has earned.
    """
    beyond = {some: right(answers, found.target) - right_when_shuffled(answers, found.target) for some, answers in found.log_probabilities.items()}
    return shapley(beyond)[name]


def _reference(found: Coalitions, v: Mapping[Coalition, Tensor], name: str) -> dict[str, float]:
    """Accuracies beside which a value is read."""
    sets = {"alone": frozenset((name,)), "without it": found.everyone - {name}, "with everything": found.everyone, "with nothing": frozenset[str]()}
    return {label: float(v[some].mean()) for label, some in sets.items()}


def _judged(
    found: Coalitions, name: str, phi: Float[Tensor, " n"], interval: tuple[float, float] | None, alone: Mapping[str, float]
) -> tuple[Verdict, str]:
    """What the value of a modality says, read together with what it can do alone."""
    if interval is None:
        return "ok", few(len(found))
    if side(interval) > 0:
        if side(bootstrap(told_by(found, name))) <= 0:
            return "warning", f"{name} is worth something only by being there: what it says of a row helps no more than what it says of another"
        whole = float((found.values(right)[found.everyone] - found.values(right)[frozenset()]).mean())
        return "ok", f"{name} is worth {points(float(phi.mean()))} of the {round(100 * whole)} that the model is better than with nothing"
    if side(interval) < 0:
        return "warning", f"answers are worse with {name} than without it"
    chance = majority(found.target, found.classes)
    if name in alone:
        noise = 1.96 * (chance * (1 - chance) / len(found)) ** 0.5
        if alone[name] > chance + noise:
            trained = f"a model trained on {name} alone is right in {100 * alone[name]:.0f} % of the rows"
            return "warning", f"{GREEDY}: {trained}, and this one makes nothing of it that can be told from 0"
        return "ok", f"useless data: even a model trained on {name} alone does not beat the commonest class, and this one rightly leaves it aside"
    mine = frozenset((name,))
    by_itself = found.values(right)[mine] - found.values(right_when_shuffled)[mine]
    if side(bootstrap(by_itself[found.present[name]])) > 0:
        return "warning", f"{GREEDY}: this model can answer from {name} alone, and makes nothing of it beside the others"
    return (
        "warning",
        f"{UNSURE}: this model gets nothing from {name}, even alone; whether there is anything in it, a model trained on it alone can tell",
    )


def _nats(found: Coalitions, name: str, phi: Float[Tensor, " n"], reference: Mapping[str, float]) -> Measure:
    interval = bootstrap(phi)
    said = {1: f"{name} makes the right class likelier", 0: UNSURE, -1: f"{name} makes the right class less likely"}[side(interval)]
    reason = few(len(found)) if interval is None else said
    verdict: Verdict = "warning" if side(interval) < 0 else "ok"
    return Measure(LIKELIHOOD, float(phi.mean()), len(found), interval, reference, verdict, reason, found.of(name), found.price)


def _likelihood_when_shuffled(log_probabilities: Float[Tensor, "n k"], target: Tensor) -> Float[Tensor, " n"]:
    """The log-probability of the right class, mean over all orders of the labels."""
    shares = class_shares(target, log_probabilities.shape[1])
    return log_probabilities.double()[:, shares > 0] @ shares[shares > 0]


def _pair(found: Coalitions, names: list[str], both: Float[Tensor, " n"]) -> Measure:
    interval = bootstrap(both)
    said = {
        1: f"{listed(names)} need one another: together they tell more than each adds by itself",
        0: UNSURE,
        -1: f"{listed(names)} say the same: with one, the other adds less",
    }[side(interval)]
    reason = few(len(found)) if interval is None else said
    return Measure(PAIR, float(both.mean()), len(found), interval, {"no interaction": 0.0}, "ok", reason, found.of(*names), found.price)


def _set(found: Coalitions, names: list[str], values: Float[Tensor, " n"]) -> Measure:
    """Accuracy with these modalities and no other."""
    answers = found.log_probabilities[frozenset(names)]
    interval = bootstrap(values)
    beyond = side(bootstrap(values - right_when_shuffled(answers, found.target)))
    said = {1: "better than", 0: "not distinguishable from", -1: "worse than"}[beyond] + " that of the same answers under shuffled labels"
    given = listed([*names, *found.kept]) or "nothing"
    reason = few(len(found)) if interval is None else f"with {given} it is {said}"
    of = found.of(*names) if names else found.of() | {"modality": "nothing"}
    return Measure(SET, float(values.mean()), len(found), interval, by_chance(answers, found.target), "ok", reason, of, found.price)
