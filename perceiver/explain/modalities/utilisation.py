"""Conditional utilisation: how much of the accuracy hangs on what a modality says about this row, beyond what it says about all rows alike.

After Wu et al. 2022, "Characterizing and Overcoming the Greedy Nature of Learning in Multi-modal Deep Neural Networks", where the message of a
branch is replaced by its mean. A Perceiver has no branches; here the features of a modality's tokens are, place by place. The number of tokens,
positions and mask stay as they are.

Letters: n rows, b rows of a batch, m tokens, c channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from perceiver.explain.examples import Examples, answers
from perceiver.explain.measure import Measure, Price, Verdict, bootstrap, not_applicable
from perceiver.explain.modalities.coalitions import Coalitions
from perceiver.explain.padding import grown
from perceiver.explain.pieces import Segments, changed, tokens_of
from perceiver.explain.right import majority, right
from perceiver.explain.subject import Subject
from perceiver.explain.wording import UNSURE, few, side
from perceiver.tokens import Tokens

RATE, IMBALANCE = "conditional utilisation", "imbalance of utilisation"


class MeanFeatures:
    """The mean features of a modality at each place, over the tokens that may be attended."""

    def __init__(self) -> None:
        self.total: Tensor = torch.zeros(0, 0, dtype=torch.double)
        self.count: Tensor = torch.zeros(0, dtype=torch.double)

    def add(self, tokens: Tokens) -> None:
        """Counts the tokens of a batch; batches may have different numbers of places."""
        mask = tokens.mask
        if mask is None:
            mask = torch.ones(tokens.features.shape[:2], dtype=torch.bool, device=tokens.features.device)
        total = tokens.features.double().masked_fill(~mask[..., None], 0).sum(0).cpu()
        places = max(len(total), len(self.total))
        size = (places, total.shape[1])
        self.total = grown(self.total.reshape(-1, total.shape[1]), size) + grown(total, size)
        self.count = grown(self.count, (places,)) + grown(mask.double().sum(0).cpu(), (places,))

    def instead(self, tokens: Tokens) -> Tokens:
        """The same tokens with mean features."""
        mean = (self.total / self.count.clamp_min(1)[:, None])[: tokens.features.shape[1]].to(tokens.features)
        return replace(tokens, features=mean.expand_as(tokens.features))


def mean_features(subject: Subject, examples: Examples, modality: str) -> MeanFeatures:
    """The mean features of a modality over rows that all have it, as its adapter makes them."""
    found = MeanFeatures()
    for batch, _ in examples.batches(subject.device):
        found.add(tokens_of(subject, batch)[0][modality])
    return found


@contextmanager
def without_news(subject: Subject, modality: str, mean: MeanFeatures) -> Iterator[list[int]]:
    """The model reads the mean of a modality while this lasts; what is given has one entry for each time that it did."""
    read: list[int] = []

    def change(segments: Segments, size: int) -> Segments:
        read.append(size)
        return {name: mean.instead(tokens) if name == modality else tokens for name, tokens in segments.items()}

    with changed(subject, change):
        yield read


def measures(subject: Subject, examples: Examples, found: Coalitions) -> list[Measure]:
    """Utilisation of each modality given the others, u = (A(f) - A(f')) / A(f), and for two modalities how unequal they are.

    Args:
        subject: the model, at rest.
        examples: rows of one dataset.
        found: their answers.
    """
    if found.obstacle:
        return found.without_measures(RATE, IMBALANCE)
    result, after = [], {}
    for name in found.players:
        rows = found.present[name]
        mine = examples.some(rows.nonzero().flatten().tolist())
        with subject.priced(len(mine)) as price:
            with without_news(subject, name, mean_features(subject, mine, name)) as read:
                answer = answers(subject, mine)
        if not read:
            reason = "the model does not read its tokens from `inputs`, where they could be replaced"
            result.append(not_applicable(RATE, reason, n=len(mine), of=found.of(name)))
            continue
        after[name] = right(found.full, found.target)
        after[name][rows] = right(answer, found.target[rows])
        result.append(_rate(found, name, after[name], price()))
    if len(after) == len(found.players) == 2:
        result.append(_imbalance(found, after, sum((one.price for one in result), Price())))
    return result + found.kept_measures(RATE)


def utilisation(pair: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
    """The share of the accuracy (first column) that is lost in the second; nothing where there is no accuracy to lose."""
    before, after = pair.mean(0)
    return (before - after) / before if before > 0 else torch.zeros((), dtype=pair.dtype)


def _rate(found: Coalitions, name: str, after: Float[Tensor, " n"], price: Price) -> Measure:
    rows = found.present[name]
    target = found.target[rows]
    pair = torch.stack([right(found.full[rows], target), after[rows]], 1)
    count = len(pair)
    before, later = pair.mean(0).tolist()
    reference = {"accuracy": before, "at the mean": later, "chance": 1 / found.classes, "majority": majority(target, found.classes)}
    if before == 0:
        return not_applicable(RATE, "no answer is right, so there is nothing to lose", n=count, of=found.of(name))
    value, interval = float(utilisation(pair)), bootstrap(pair, utilisation)
    said = {
        1: f"{100 * value:.0f} % of the right answers hang on what {name} says about this row",
        0: f"{UNSURE}: the mean of {name} over all rows serves as well",
        -1: f"answers are better with the mean of {name} over all rows",
    }[side(interval)]
    verdict: Verdict = "warning" if interval is not None and side(interval) <= 0 else "ok"
    return Measure(RATE, value, count, interval, reference, verdict, few(count) if interval is None else said, found.of(name), price)


def _imbalance(found: Coalitions, after: dict[str, Tensor], price: Price) -> Measure:
    """d = u(a | b) - u(b | a), from -1 to 1, over the rows that have both."""
    a, b = found.players
    both: Bool[Tensor, " n"] = found.present[a] & found.present[b]
    count, of = int(both.sum()), found.of(a, b)
    triple = torch.stack([right(found.full, found.target), after[a], after[b]], 1)[both]
    if not count or triple[:, 0].sum() == 0:
        reason = "no row with both is answered right" if count else f"no row has both {a} and {b}"
        return not_applicable(IMBALANCE, reason, n=count, of=of)

    def difference(rows: Tensor) -> Tensor:
        return utilisation(rows[:, [0, 1]]) - utilisation(rows[:, [0, 2]])

    interval = bootstrap(triple, difference)
    more, less = (a, b) if side(interval) > 0 else (b, a)
    unused = side(bootstrap(triple[:, 0] - triple[:, 1 if less == a else 2])) <= 0
    said = f"the model leans on {more} alone" if unused else f"the model leans more on {more} than on {less}"
    if interval is None:
        said = few(count)
    elif side(interval) == 0:
        said = f"{UNSURE}: the model does not lean on one of them more than on the other"
    verdict: Verdict = "warning" if side(interval) != 0 and unused else "ok"
    return Measure(IMBALANCE, float(difference(triple)), count, interval, {"balanced": 0.0}, verdict, said, of, price)
