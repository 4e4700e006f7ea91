"""Lack of comprehensiveness: does an explanation name the tokens that the answer rests on? Each is tested against random order.

An explanation passes when taking its tokens away costs more than taking as many at random, and when the gap between giving its tokens first and
taking them first is wider, too: both with intervals over rows that lie above zero. One that does not pass is no better than chance, however
bright it shines.

Letters: n rows, b rows of a batch, M tokens, k classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.explain.attention.gradients import STEPS, completeness_error
from perceiver.explain.attention.intervention import held, permuted, reweighed
from perceiver.explain.attention.passage import kind_of, label
from perceiver.explain.examples import Examples
from perceiver.explain.faithfulness.explanations import INTEGRATED, Explanation, explanations, passage_of
from perceiver.explain.faithfulness.removal import Curves, curves, ranks
from perceiver.explain.measure import FEW_ROWS, Diagnosis, Measure, Price, Verdict, bootstrap, not_applicable, worst
from perceiver.explain.pieces import attendable, side_by_side, tokens_of
from perceiver.explain.subject import Batch, Subject
from perceiver.explain.wording import judged, listed

KEY, TITLE = "faithfulness", "Lack of comprehensiveness"
RANDOM_ORDERS = 5
PERMUTATIONS = 10
INCOMPLETE = 0.05  # of what all tokens add together
FIGURES = ("comprehensiveness", "sufficiency", "deletion", "insertion")


@dataclass(frozen=True)
class Outcome:
    """What became of the answers of some rows when tokens were taken in the order of an explanation, row by row.

    Attributes:
        comprehensiveness: see `Curves`; high is good.
        sufficiency: low is good.
        deletion: low is good.
        insertion: high is good.
        price: what it cost.
        incompleteness: how far what the tokens add is from what all of them add together, as a share of it; of integrated gradients alone.
    """

    comprehensiveness: Float[Tensor, " n"]
    sufficiency: Float[Tensor, " n"]
    deletion: Float[Tensor, " n"]
    insertion: Float[Tensor, " n"]
    price: Price = Price()
    incompleteness: Float[Tensor, " n"] | None = None

    @classmethod
    def of(cls, parts: list[Curves], price: Price, errors: list[Tensor]) -> "Outcome":
        """From the curves of several batches, and what integrated gradients lack in each; nothing for others."""
        return cls(
            torch.cat([part.comprehensiveness for part in parts]),
            torch.cat([part.sufficiency for part in parts]),
            torch.cat([part.deletion for part in parts]),
            torch.cat([part.insertion for part in parts]),
            price,
            torch.cat(errors) if errors else None,
        )

    def gain(self, random: "Outcome") -> Float[Tensor, "n 2"]:
        """How much better than random order: in comprehensiveness, and in the gap between insertion and deletion."""
        gap, other = self.insertion - self.deletion, random.insertion - random.deletion
        return torch.stack([self.comprehensiveness - random.comprehensiveness, gap - other], 1)


@dataclass(frozen=True)
class Trial:
    """What became of an explanation.

    Attributes:
        explanation: that was tested.
        reasons: by dataset, why it is not shown as an explanation there; empty where it is better than random order.
        untold: datasets whose rows are too few to tell; it is not shown there, either, but that is no fault of its own.
    """

    explanation: Explanation
    reasons: dict[str, str]
    untold: set[str] = field(default_factory=set)

    @property
    def passed(self) -> list[str]:
        """Datasets for which it is better than random order."""
        return [dataset for dataset, reason in self.reasons.items() if not reason]

    @property
    def failed(self) -> list[str]:
        """Datasets for which it is not."""
        return [dataset for dataset, reason in self.reasons.items() if reason and dataset not in self.untold]


def diagnose(subject: Subject, examples: Mapping[str, Examples], *, without: Sequence[str] = ()) -> tuple[Diagnosis, dict[str, Trial]]:
    """Tests every explanation on every dataset.

    Args:
        subject: the model, at rest.
        examples: rows by dataset.
        without: names of explanations that are left out, because they are too dear.

    Returns:
        The diagnosis; and what became of each explanation, by its name.
    """
    measures: list[Measure] = []
    trials: dict[str, Trial] = {}
    for dataset, some in examples.items():
        of = {"dataset": dataset}
        if not subject.class_count(dataset):
            measures.append(not_applicable("comprehensiveness", f"{dataset} has no classes whose probability could fall", of=of))
            continue
        mine = [kind for kind in kinds_for(subject, some) if kind.name not in without]
        if not mine:
            reason = "no attention of this model can be followed from the answer to the inputs"
            measures.append(not_applicable("comprehensiveness", reason, n=len(some), of=of))
            continue
        random, found = tested(subject, some, mine)
        for kind in mine:
            gain = found[kind.name].gain(random)
            reason, trial = why_not(gain), trials.setdefault(kind.name, Trial(kind, {}))
            trial.reasons[dataset] = reason
            trial.untold.update([dataset] if len(gain) < FEW_ROWS else [])
            measures += _measures(of | {"explanation": kind.name}, found[kind.name], random, reason)
        measures.append(permutation(subject, some))
    verdicts: list[Verdict] = ["warning" if trial.failed else "ok" for trial in trials.values()]
    return Diagnosis(KEY, TITLE, worst(verdicts), sentence(list(trials.values())), tuple(measures)), trials


def kinds_for(subject: Subject, examples: Examples) -> list[Explanation]:
    """The explanations that there are for these rows."""
    batch, _ = next(examples.first(1).batches(subject.device))
    passage = passage_of(subject, batch)
    return [] if passage.reason else explanations(passage)


def tested(subject: Subject, examples: Examples, kinds: list[Explanation]) -> tuple[Outcome, dict[str, Outcome]]:
    """Random order (the mean of several), and each explanation."""
    parts: dict[str, list[Curves]] = {kind.name: [] for kind in kinds}
    prices = dict.fromkeys(parts, Price())
    errors: dict[str, list[Tensor]] = {kind.name: [] for kind in kinds}
    random: list[list[Curves]] = [[] for _ in range(RANDOM_ORDERS)]
    generator = torch.Generator().manual_seed(0)
    for batch, _ in examples.batches(subject.device):
        with torch.no_grad():
            chosen = subject.scores(batch).argmax(1)
        segments, size = tokens_of(subject, batch)
        valid = side_by_side(attendable(segments, size))
        for order in random:
            drawn = torch.rand(valid.shape, generator=generator).to(valid.device)
            order += curves(subject, batch, chosen, [ranks(drawn, valid)])
        for kind in kinds:
            with subject.priced(len(examples)) as price:
                relevance = kind.explain(subject, batch, chosen)
                missing = {name: torch.zeros(tokens.attendable(size).shape, device=valid.device) for name, tokens in segments.items()}
                parts[kind.name] += curves(subject, batch, chosen, [ranks(side_by_side(missing | relevance), valid)])
                if kind.name == INTEGRATED:
                    errors[kind.name].append(completeness_error(subject, batch, partial(subject.log_odds, batch, chosen), relevance).cpu())
            prices[kind.name] = prices[kind.name] + price()
    mean = mean_of([Outcome.of(order, Price(), []) for order in random])
    return mean, {name: Outcome.of(found, prices[name], errors[name]) for name, found in parts.items()}


def mean_of(outcomes: list[Outcome]) -> Outcome:
    """The mean of several, row by row."""
    comprehensiveness, sufficiency, deletion, insertion = (torch.stack([getattr(one, name) for one in outcomes]).mean(0) for name in FIGURES)
    return Outcome(comprehensiveness, sufficiency, deletion, insertion)


def why_not(gain: Float[Tensor, "n 2"]) -> str:
    """Why an explanation is not shown as one; empty where it is better than random order."""
    intervals = [bootstrap(gain[:, k]) for k in range(2)]
    if None in intervals:
        return f"{len(gain)} rows are too few to tell it from random order"
    told = [f"{what} {1e2 * float(gain[:, k].mean()):+.1f} points" for k, what in enumerate(("taking its pieces costs", "giving them first gains"))]
    if all(interval is not None and interval[0] > 0 for interval in intervals):
        return ""
    return f"no better than pieces taken at random here ({' and '.join(told)} against random order)"


def _measures(of: dict[str, str], found: Outcome, random: Outcome, reason: str) -> list[Measure]:
    """Of one explanation on one dataset."""
    n = len(found.deletion)
    made = [] if found.incompleteness is None else [_completeness(found.incompleteness, of, found.price)]
    passes = f"this explanation is {reason or 'better than random order'}"
    for name in FIGURES:
        values, other = getattr(found, name), getattr(random, name)
        interval = bootstrap(values)
        verdict, said = judged(interval, n, "warning" if reason else "ok", passes)
        made.append(Measure(name, float(values.mean()), n, interval, {"random": float(other.mean())}, verdict, said, of, found.price))
    return made


def _completeness(errors: Float[Tensor, " n"], of: dict[str, str], price: Price) -> Measure:
    """Whether integrated gradients add up to what they must: the median over rows, since one whose sum is next to nothing can be off by any share."""
    value, interval = float(errors.median()), bootstrap(errors, torch.median)
    exact = value < INCOMPLETE
    said = f"what the pieces add is off by {100 * value:.1f} % of the log-odds that they add together"
    said += "" if exact else f": {STEPS} steps are too few for this model, and what it marks is not to be relied on"
    return Measure(
        "completeness error",
        value,
        len(errors),
        interval,
        {"exact": 0.0},
        *judged(interval, len(errors), "ok" if exact else "warning", said),
        of,
        price,
    )


def permutation(subject: Subject, examples: Examples) -> Measure:
    """How far answers move when the attention of all reads is dealt out anew among the tokens: the median over permutations of half the summed
    difference of all probabilities (Jain & Wallace 2019, section 4.2.1), mean over rows."""
    of = {"dataset": examples.dataset}
    batch, _ = next(examples.first(1).batches(subject.device))
    layers = tuple(dict.fromkeys(call.layer for call in passage_of(subject, batch).calls if kind_of(call) == "read"))
    with subject.priced(len(examples)) as price, torch.no_grad():
        generator, some = torch.Generator().manual_seed(0), held(subject, examples, layers)
        try:
            values = torch.cat([_dealt_anew(subject, batch, layers, generator) for batch, _ in some.batches(subject.device)])
        except ValueError as error:
            return not_applicable("attention permutation", str(error), n=len(examples), of=of)
    mean, interval = float(values.mean()), bootstrap(values)
    names = ", ".join(label(layer) for layer in layers)
    reason = f"dealing out the attention of {names} anew moves an answer by {mean:.2f} of 1"
    matters = mean > 0.1
    if not matters:
        reason += ": what it attends to hardly matters, and its picture explains nothing"
    verdict, reason = judged(interval, len(values), "ok" if matters else "warning", reason)
    return Measure("attention permutation", mean, len(values), interval, {"unmoved": 0.0}, verdict, reason, of, price())


def _dealt_anew(subject: Subject, batch: Batch, layers: tuple[str, ...], generator: torch.Generator) -> Float[Tensor, " b"]:
    """How far each row's answer moves when attention is dealt out anew; the median over permutations."""
    whole = subject.scores(batch).exp()
    draws = []
    for _ in range(PERMUTATIONS):
        with reweighed(subject.model, layers, permuted(generator)):
            draws.append((subject.scores(batch).exp() - whole).abs().sum(1) / 2)
    return torch.stack(draws).median(0).values.cpu()


def sentence(trials: list[Trial]) -> str:
    """What the tests found, for people."""
    if not trials:
        return "No explanation could be tested."
    good = [trial.explanation.label for trial in trials if trial.passed and not trial.failed]
    partly = [f"{trial.explanation.label} (not for {listed(trial.failed)})" for trial in trials if trial.passed and trial.failed]
    bad = [trial.explanation.label for trial in trials if trial.failed and not trial.passed]
    untold = list(dict.fromkeys(dataset for trial in trials for dataset in trial.reasons if dataset in trial.untold))
    told = []
    if good:
        told.append(f"These mark pieces that the answers rest on, and better than chance does: {listed(good)}.")
    if partly:
        told.append(f"These do for some questions alone: {listed(partly)}.")
    if bad:
        told.append(f"These are no better than marks at random, and are not shown as explanations: {listed(bad)}.")
    if untold:
        told.append(f"Rows of {listed(untold)} are too few to tell any from marks at random, and none is shown there: it takes {FEW_ROWS}.")
    return " ".join(told)
