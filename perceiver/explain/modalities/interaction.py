"""Interaction: does a model combine its modalities, or only add up what each of them says?

EMAP (Hessel and Lee 2020, "Does my multimodal model learn cross-modal interactions?"): the additive model that is nearest to a model's scores f when
every modality is paired with every other row's,

    f_hat(x) = sum_m E[f | x_m] - (K - 1) E[f],

is scored beside the model itself. What is lost is what interactions were good for. Taking all N^K pairings is dear: here some are drawn, S a row,
so that every row's modality occurs equally often, and the additive model is fitted to them by least squares. Where all pairings are there, that is
the formula itself. Whatever was drawn, a model that only adds up is found to be one exactly; one that does more is projected with some noise, which
makes the gap too large rather than too small.

Letters: K modalities, N rows, S draws, k classes.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perceiver.explain.examples import Examples, answers
from perceiver.explain.measure import Measure, Price, Verdict, bootstrap, not_applicable
from perceiver.explain.modalities.coalitions import Coalitions
from perceiver.explain.modalities.missing import patterns
from perceiver.explain.right import by_chance, log_likelihood, right
from perceiver.explain.subject import Subject
from perceiver.explain.wording import few, listed, points, side

GAP, LIKELIHOOD_GAP = "interaction gap, accuracy", "interaction gap, log-probability"
ROWS, SHUFFLES, FEWEST = 256, 20, 200
LEAST = 10  # fewer pairings might leave two groups of rows that never meet


def pairings(modalities: int, rows: int, shuffles: int) -> Int[Tensor, "S K N"]:
    """Which row each modality comes from: the first from the row itself, the others from another one.

    Args:
        modalities: how many there are.
        rows: how many there are.
        shuffles: times that each row's modality occurs at most. Where they suffice for all pairings, those are given; else random ones.
    """
    own = torch.arange(rows)
    if rows ** (modalities - 1) <= shuffles:
        steps = torch.tensor(list(product(range(rows), repeat=modalities - 1)))
        others = (own + steps[..., None]) % rows
        return torch.cat([own.expand(len(steps), 1, rows), others], 1)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.stack([own, *(torch.randperm(rows, generator=generator) for _ in range(modalities - 1))]) for _ in range(shuffles)]
    return torch.stack(drawn)


def centred(log_probabilities: Float[Tensor, "... k"]) -> Float[Tensor, "... k"]:
    """Scores whose mean over the classes is 0: adding a constant to a row's scores changes no answer, and must not count as interaction."""
    scores = log_probabilities.double()
    return scores - scores.mean(-1, keepdim=True)


def additive(scores: Float[Tensor, "S N k"], pairing: Int[Tensor, "S K N"]) -> Float[Tensor, "N k"]:
    """Scores of the nearest additive model for each row as it is.

    Args:
        scores: of the paired rows.
        pairing: which row each modality came from.
    """
    shuffles, modalities, rows = pairing.shape
    design = torch.zeros(shuffles * rows, modalities * rows, dtype=torch.double)
    for m in range(modalities):
        design[torch.arange(shuffles * rows), m * rows + pairing[:, m].flatten()] = 1
    # One constant can move from a modality to another, so that there are many solutions, which all give the same sums.
    fitted = torch.linalg.pinv(design.T @ design, hermitian=True) @ (design.T @ scores.flatten(0, 1).double())
    return fitted.unflatten(0, (modalities, rows)).sum(0)


def measures(subject: Subject, examples: Examples, found: Coalitions, *, shuffles: int = SHUFFLES, rows: int = ROWS) -> list[Measure]:
    """Accuracy and log-probability of the model, less those of the nearest additive model.

    Args:
        subject: the model, at rest.
        examples: rows of one dataset.
        found: their answers.
        shuffles: pairings of each row; the price in passes.
        rows: at most so many, of those that have the same modalities, as most rows have.

    Raises:
        ValueError: when there are fewer than 10 shuffles.
    """
    if shuffles < LEAST:
        raise ValueError(f"shuffles={shuffles}: give at least {LEAST}, so that all rows are paired with one another, be it in a roundabout way")
    if found.obstacle:
        return found.without_measures(GAP, LIKELIHOOD_GAP)
    groups = {has: mine for has, mine in patterns(found).items() if len(has) > 1}
    if found.kept or not groups:
        reason = f"{listed(found.kept)} cannot be exchanged, since its own content is asked" if found.kept else "no row has two modalities"
        return [not_applicable(name, reason, n=len(found), of=found.of()) for name in (GAP, LIKELIHOOD_GAP)]
    has = max(groups, key=lambda some: int(groups[some].sum()))
    names = [name for name in found.players if name in has]
    chosen = groups[has].nonzero().flatten()[:rows]
    if len(chosen) < 2:
        return [not_applicable(name, "one row has no other to be paired with", n=1, of=found.of(*names)) for name in (GAP, LIKELIHOOD_GAP)]
    with subject.priced(len(chosen)) as price:
        projected = projection(subject, examples.some(chosen.tolist()), names, shuffles)
        return _measures(found, names, chosen, projected.log_softmax(-1), price())


def projection(subject: Subject, examples: Examples, modalities: list[str], shuffles: int) -> Float[Tensor, "N k"]:
    """Scores of the additive model that is nearest to a model.

    Args:
        subject: the model, at rest.
        examples: rows that all have these modalities.
        modalities: two or more.
        shuffles: pairings of each row.
    """
    pairing = pairings(len(modalities), len(examples), shuffles)
    scores = []
    for places in pairing:
        paired = examples
        for name, partner in zip(modalities[1:], places[1:], strict=True):
            paired = paired.exchanged(name, partner.tolist())
        scores.append(centred(answers(subject, paired)))
    return additive(torch.stack(scores), pairing)


def _measures(found: Coalitions, names: list[str], rows: Int[Tensor, " N"], projected: Float[Tensor, "N k"], price: Price) -> list[Measure]:
    target = found.target[rows]
    result = []
    for label, score in ((GAP, right), (LIKELIHOOD_GAP, log_likelihood)):
        whole, sums = score(found.full[rows], target), score(projected, target)
        gap, interval = float((whole - sums).mean()), bootstrap(whole - sums)
        reference = {"additive model": 0.0, "the model itself": float(whole.mean()), "its additive projection": float(sums.mean())}
        if label == GAP:
            reference |= {name: value for name, value in by_chance(found.full[rows], target).items() if name != "shuffled label"}
        lost = f"{points(gap)} of accuracy" if label == GAP else f"{gap:.2g} nats of the right class"
        said = {
            1: f"{lost} are lost when what {listed(names)} say is only added up: the model combines them",
            0: f"the model only adds up what each modality says: for {listed(names)}, interactions make no difference that can be told from 0",
            -1: f"what {listed(names)} say had better only be added up: their interactions make answers worse",
        }[side(interval)]
        if len(rows) < FEWEST:
            said += f" ({len(rows)} rows are few for this: take {FEWEST})"
        verdict: Verdict = "warning" if interval is not None and side(interval) <= 0 else "ok"
        reason = few(len(rows)) if interval is None else said
        result.append(Measure(label, gap, len(rows), interval, reference, verdict, reason, found.of(*names), price))
    return result
