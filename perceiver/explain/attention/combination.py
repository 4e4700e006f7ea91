"""How attention combines the modalities: where its mass goes, whether it moves with the input, and whether that matters.

Mass has no scale of its own: image tokens may outnumber bytes a hundred to one. So it always stands beside the share of the tokens (their
ratio is the lift) and beside the mass of a model that has learned nothing. Attention's weights are soft weights, which change with the input:
how much they do is measured (input dependence), and what it is worth (the accuracy that is lost when each weight is fixed at its mean over rows).

Letters: n rows, h heads, q latents.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.explain.attention.intervention import MeanWeights, constant, held, reweighed, uniform
from perceiver.explain.attention.survey import LayerSurvey, survey
from perceiver.explain.examples import Examples, answers
from perceiver.explain.measure import Diagnosis, Measure, Price, Verdict, bootstrap, not_applicable
from perceiver.explain.right import unlabelled
from perceiver.explain.subject import Subject
from perceiver.explain.wording import few, judged, listed

KEY, TITLE = "combination", "How attention combines"
MOVES = 0.01  # of what could be told of a row, beyond what it lacks


@dataclass(frozen=True)
class Surveys:
    """Of one dataset.

    Attributes:
        trained: of the model.
        untrained: of its untrained twin; None where it has none.
        price: of asking both.
    """

    trained: list[LayerSurvey]
    untrained: list[LayerSurvey] | None
    price: Price = field(default=Price(), compare=False)

    @property
    def twins(self) -> list[LayerSurvey | None]:
        """Of the twin, call by call; None each where there is none."""
        return [None] * len(self.trained) if self.untrained is None else list(self.untrained)

    @property
    def reads(self) -> list[tuple[LayerSurvey, LayerSurvey | None]]:
        """The reads of the inputs, each beside that of the twin."""
        return [(one, twin) for one, twin in zip(self.trained, self.twins, strict=True) if one.kind == "read"]

    def paid(self, measures: list[Measure]) -> list[Measure]:
        """The same measures with the price of the survey: those that are made of the same survey have the same price."""
        return [measure if measure.value is None else replace(measure, price=measure.price + self.price) for measure in measures]


def surveys(subject: Subject, examples: Examples, twin: nn.Module | None) -> Surveys:
    """Of one dataset."""
    with subject.priced(len(examples)) as price:
        trained, untrained = survey(subject, examples), None if twin is None else survey(subject, examples, twin)
        return Surveys(trained, untrained, price())


def diagnose(subject: Subject, examples: Mapping[str, Examples], found: Mapping[str, Surveys]) -> Diagnosis:
    """Mass, lift, movement, input dependence, and what it is worth, for each dataset."""
    measures: list[Measure] = []
    for dataset, some in examples.items():
        mine = found[dataset]
        if not mine.reads:
            measures.append(not_applicable("mass", "no attention reads the inputs in this model", n=len(some), of={"dataset": dataset}))
            continue
        for one, twin in mine.reads:
            measures += mine.paid([*masses(dataset, one, twin), dependence(dataset, one, twin)])
        measures += moved(subject, some, [one for one, _ in mine.reads])
        measures += soft_gap(subject, some, list(dict.fromkeys(one.module for one, _ in mine.reads)))
    gaps = [measure for measure in measures if measure.name == "soft gap" and measure.value is not None and measure.of["layer"] == "reads"]
    told_apart = [gap for gap in gaps if gap.interval is not None] or gaps
    verdict: Verdict = "not applicable" if not gaps else "ok" if any(gap.verdict == "ok" for gap in told_apart) else "warning"
    return Diagnosis(KEY, TITLE, verdict, _sentence(measures, gaps), tuple(measures))


def masses(dataset: str, one: LayerSurvey, twin: LayerSurvey | None) -> list[Measure]:
    """The mass of each segment in one read, and its lift: mass over share of the tokens."""
    made = []
    for name in one.segments:
        mass = one.mass(name).mean((1, 2)).cpu()
        share = one.share(name).cpu()
        there = share > 0
        if not there.any():
            continue
        of = {"dataset": dataset, "layer": one.layer, "modality": name}
        reference = {"uniform": float(share.mean())}
        if twin is not None:
            reference["untrained"] = float(twin.mass(name).mean())
        ratio = float(mass[there].mean() / share[there].mean())
        reason = f"{ratio:.2f} times its share of the tokens"
        made.append(Measure("mass", float(mass.mean()), len(mass), bootstrap(mass), reference, "ok", reason, of))
        lift = (mass / share)[there]
        made.append(Measure("lift", float(lift.mean()), len(lift), bootstrap(lift), {"uniform": 1.0}, "ok", "mass over share of the tokens", of))
    return made


def dependence(dataset: str, one: LayerSurvey, twin: LayerSurvey | None) -> Measure:
    """Share of what could be told of a row from where a query looks, that can be: 0 = all rows are attended to alike, 1 = no two rows are.

    Nobody looks at what a row lacks, be it padding or a modality, and that tells something of it, too. As much as weights would have that depend on
    nothing else is the reference `constant`; the verdict is on what exceeds it.
    """
    of = {"dataset": dataset, "layer": one.layer}
    own, constant = one.dependence.cpu().unbind(1)
    if not len(own):
        return not_applicable("input dependence", "one row alone depends on nothing: give more", n=len(one.coverage), of=of)
    reference = {"constant": float(constant.mean())}
    if twin is not None and len(twin.dependence):
        reference["untrained"] = float(twin.dependence[:, 0].mean())
    moves = float((own - constant).mean()) > MOVES
    reason = "where it looks depends on the row" if moves else "it looks at the same places whatever the row, but for what a row lacks"
    interval = bootstrap(own)
    verdict, reason = judged(interval, len(own), "ok" if moves else "warning", reason)
    return Measure("input dependence", float(own.mean()), len(own), interval, reference, verdict, reason, of)


def moved(subject: Subject, examples: Examples, reads: list[LayerSurvey]) -> list[Measure]:
    """How far the mass of each read moves when one modality is exchanged with another row's: half the summed difference of the shares."""
    made = []
    for name in subject.modalities:
        partner = partners(examples, name)
        if partner is None:
            continue
        with subject.priced(len(examples)) as price:
            other = [one for one in survey(subject, examples.exchanged(name, partner)) if one.kind == "read"]
        has = examples.has(name)
        for before, after in zip(reads, other, strict=True):
            distance = (shares(before) - shares(after)).abs().sum(1)[has.to(shares(before).device)].cpu() / 2
            made.append(
                Measure(
                    "mass moved",
                    float(distance.mean()),
                    len(distance),
                    bootstrap(distance),
                    {"nothing exchanged": 0.0},
                    "ok",
                    f"so much of the attention changes modality when the {name} is another row's",
                    {"dataset": examples.dataset, "layer": before.layer, "exchanged": name},
                    price(),
                )
            )
    return made


def shares(one: LayerSurvey) -> Float[Tensor, "n s"]:
    """The mass of each segment, mean over heads and queries."""
    return torch.stack([one.mass(name).mean((1, 2)) for name in one.segments], 1)


def partners(examples: Examples, modality: str) -> list[int] | None:
    """For each row another one that has the modality, so that each one's is given once; None where fewer than two rows have it."""
    have = examples.has(modality).nonzero().flatten()
    if len(have) < 2:
        return None
    order = have[torch.randperm(len(have), generator=torch.Generator().manual_seed(0))]
    partner = torch.arange(len(examples))
    partner[order] = order.roll(1)
    return partner.tolist()


def soft_gap(subject: Subject, examples: Examples, reads: list[str]) -> list[Measure]:
    """The accuracy that is lost when soft weights are fixed at their mean over rows (Hassid et al. 2022): of the reads, and of all layers."""
    of = {"dataset": examples.dataset}
    if reason := unlabelled(examples, subject.class_count(examples.dataset)):
        return [not_applicable("soft gap", reason, n=len(examples), of=of | {"layer": which}) for which in ("reads", "all layers")]
    full = (answers(subject, examples).argmax(1) == examples.target).float()
    made = []
    for which, layers in (("reads", tuple(reads)), ("all layers", ("",))):
        try:
            with subject.priced(len(examples)) as price:
                means = MeanWeights(subject.model, layers)
                for batch, count in examples.batches(subject.device):
                    means.add(partial(subject.scores, batch), count)
                some = held(subject, examples, layers)
                with reweighed(subject.model, layers, constant(means())):
                    fixed = (answers(subject, some).argmax(1) == examples.target).float()
                with reweighed(subject.model, layers, uniform):
                    even = (answers(subject, some).argmax(1) == examples.target).float()
        except ValueError as error:
            made.append(not_applicable("soft gap", str(error), n=len(examples), of=of | {"layer": which}))
            continue
        gap, interval = full - fixed, bootstrap(full - fixed)
        matters = interval is not None and interval[0] > 0
        reason = (
            "fixed weights answer worse: what attention makes of the input matters"
            if matters
            else "weights that are the same for all rows answer as well: that they are soft buys nothing here"
        )
        reference = {"full": float(full.mean()), "constant": float(fixed.mean()), "uniform": float(even.mean())}
        verdict, reason = judged(interval, len(gap), "ok" if matters else "warning", reason)
        made.append(Measure("soft gap", float(gap.mean()), len(gap), interval, reference, verdict, reason, of | {"layer": which}, price()))
    return made


def _sentence(measures: list[Measure], gaps: list[Measure]) -> str:
    """What was found, for people."""
    mass = [measure for measure in measures if measure.name == "mass" and measure.value is not None]
    if not mass:
        return "This model has no attention that reads its inputs."
    # Where rows have one modality, it gets everything, and says nothing about how attention combines.
    several = {measure.of["dataset"] for measure in mass if measure.reference["uniform"] < 1}
    told = []
    for name in dict.fromkeys(measure.of["modality"] for measure in mass):
        mine = [measure for measure in mass if measure.of["modality"] == name and measure.of["dataset"] in several]
        if mine:
            share = sum(measure.value or 0.0 for measure in mine) / len(mine)
            even = sum(measure.reference["uniform"] for measure in mine) / len(mine)
            told.append(f"{100 * share:.0f} % to {name} ({100 * even:.0f} % if all pieces were read alike)")
    shared = f"On average attention goes {listed(told)}." if told else "Each row has one modality, which gets all attention."
    if not gaps:
        return shared
    told_apart = [gap for gap in gaps if gap.interval is not None]
    if not told_apart:
        return f"{shared} What that is worth cannot be told: {few(max(gap.n for gap in gaps))}."
    lost = 100 * sum(gap.value or 0.0 for gap in told_apart) / len(told_apart)
    if any(gap.verdict == "ok" for gap in told_apart):
        return (
            f"{shared} Where it goes depends on the row, and that matters: with weights fixed at their mean, {lost:.0f} points of accuracy are lost."
        )
    return f"{shared} But its weights might as well be fixed: with their mean in place, {lost:.0f} points of accuracy are lost."
