"""Perceptual score: what is lost when each row gets a modality of another row (Gat et al. 2021, "Perceptual Score").

Nothing is missing then, so a model that never met a missing modality can be asked, too. The score is blind to a modality that others repeat: where
all of them say the same, exchanging any one may cost nothing. It is therefore read beside the Shapley values.

Letters: n rows, k classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perceiver.explain.examples import Examples, answers
from perceiver.explain.measure import Measure, Price, Verdict, bootstrap, not_applicable
from perceiver.explain.modalities.coalitions import Coalitions
from perceiver.explain.modalities.shapley import shapley, told_by
from perceiver.explain.right import majority, right, right_when_shuffled
from perceiver.explain.subject import Subject
from perceiver.explain.wording import UNSURE, few, points, side

SCORE, OF_MODEL, OF_TASK = "perceptual score", "perceptual score, of the accuracy", "perceptual score, of what is above the commonest class"
LEAST = 5


def measures(subject: Subject, examples: Examples, found: Coalitions, *, permutations: int = LEAST) -> list[Measure]:
    """The score of each modality, plain, relative to the model's accuracy, and relative to what there is to win on the task.

    Args:
        subject: the model, at rest.
        examples: rows of one dataset.
        found: their answers.
        permutations: times that each modality is exchanged, among the rows that have it.

    Raises:
        ValueError: when there are fewer than 5 permutations.
    """
    if permutations < LEAST:
        raise ValueError(f"permutations={permutations}: the score is a mean over random exchanges, give at least {LEAST}")
    if found.obstacle:
        return found.without_measures(SCORE, OF_MODEL, OF_TASK)
    result = []
    for name in found.players:
        rows = found.present[name].nonzero().flatten()
        if len(rows) < 2:
            result.append(not_applicable(SCORE, f"only one row has {name}, so there is no other to exchange it with", n=1, of=found.of(name)))
            continue
        with subject.priced(len(rows)) as price:
            exchanged = [answers(subject, mine) for mine in exchanges(examples.some(rows.tolist()), name, permutations)]
            result += _measures(found, name, rows, exchanged, price())
    return result + found.kept_measures(SCORE)


def exchanges(examples: Examples, modality: str, permutations: int) -> list[Examples]:
    """The same rows, each with the modality of another row: in a random order, each gets that of the next one.

    Args:
        examples: rows that all have the modality.
        modality: that is exchanged.
        permutations: number of random orders; the same ones each time.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(permutations):
        order = torch.randperm(len(examples), generator=generator)
        partner = torch.empty_like(order)
        partner[order] = order.roll(1)
        found.append(examples.exchanged(modality, partner.tolist()))
    return found


def _measures(found: Coalitions, name: str, rows: Int[Tensor, " n"], exchanged: list[Tensor], price: Price) -> list[Measure]:
    target, whole = found.target[rows], found.full[rows]
    before = right(whole, target)
    after = torch.stack([right(answer, target) for answer in exchanged]).mean(0)
    blind = right_when_shuffled(whole, target) - torch.stack([right_when_shuffled(answer, target) for answer in exchanged]).mean(0)
    common, accuracy = majority(target, found.classes), float(before.mean())
    reference = {"accuracy": accuracy, "when exchanged": float(after.mean()), "chance": 1 / found.classes, "majority": common}
    reference |= {"shuffled label": float(blind.mean())}
    interval = bootstrap(before - after)
    verdict, reason = _judged(found, name, rows, float((before - after).mean()), interval)
    of = found.of(name)
    result = [Measure(SCORE, float((before - after).mean()), len(rows), interval, reference, verdict, reason, of, price)]
    if accuracy == 0:
        result.append(not_applicable(OF_MODEL, "no answer is right, so there is nothing to lose", n=len(rows), of=of))
    else:
        share = bootstrap(torch.stack([before, after], 1), _share_lost)
        result.append(Measure(OF_MODEL, 1 - float(after.mean()) / accuracy, len(rows), share, reference, verdict, reason, of, price))
    if common == 1:
        result.append(not_applicable(OF_TASK, "all rows are of one class, so there is nothing to win", n=len(rows), of=of))
    else:
        scaled = (before - after) / (1 - common)
        result.append(Measure(OF_TASK, float(scaled.mean()), len(rows), bootstrap(scaled), reference, verdict, reason, of, price))
    return result


def _share_lost(pair: Float[Tensor, "n 2"]) -> Tensor:
    """Of the accuracy; nothing where a draw has no right answer at all."""
    before, after = pair.mean(0)
    return (before - after) / before if before > 0 else before.new_zeros(())


def _judged(found: Coalitions, name: str, rows: Int[Tensor, " n"], lost: float, interval: tuple[float, float] | None) -> tuple[Verdict, str]:
    """What the score says, read together with the Shapley value, which a modality keeps that others repeat."""
    if interval is None:
        return "ok", few(len(rows))
    if side(interval) > 0:
        return "ok", f"with {name} of another row {points(lost)} of accuracy are lost"
    if side(interval) < 0:
        return "warning", f"answers are better with {name} of another row"
    if side(bootstrap(told_by(found, name))) > 0:
        worth = points(float(shapley(found.values(right))[name].mean()))
        instead = "the others say the same and stand in for it, or all these rows need the same of it"
        return "ok", f"{UNSURE}, though {name} is worth {worth} as a Shapley value: {instead}"
    return "warning", f"{UNSURE}: {name} of another row serves as well"
