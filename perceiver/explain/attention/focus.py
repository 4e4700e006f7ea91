"""Narrow focus: does attention stare at few places, and is that harmful?

Sharp attention alone is no fault: one key may be all that is needed. It is one where the inputs are hardly covered as well, or where one key draws
the attention of all rows although it carries something (a key that carries next to nothing is a harmless place to put attention that is not needed;
Gu et al. 2024, "When Attention Sink Emerges in Language Models").

Letters: n rows, h heads, s sinks, b rows of a batch, k classes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.explain.attention.combination import Surveys
from perceiver.explain.attention.sinks import SINK, Sink, columns, rate_interval
from perceiver.explain.attention.statistics import spectral_norms
from perceiver.explain.attention.survey import LayerSurvey
from perceiver.explain.examples import Examples
from perceiver.explain.measure import Diagnosis, Measure, Price, Verdict, bootstrap, not_applicable, worst
from perceiver.explain.pieces import Segments, keeping, tokens_of
from perceiver.explain.right import unlabelled
from perceiver.explain.subject import Batch, Subject
from perceiver.explain.wording import few, judged, side

KEY, TITLE = "focus", "Narrow focus"
SHARP, NARROW = 0.1, 0.1  # normalised entropy; share of the keys
HARMLESS = 0.1  # of what the mean key gives
MOVED = 0.1  # of all probability; answers without labels that move less hardly move
TOLD = 3  # sinks of a read that are named


def diagnose(subject: Subject, examples: Mapping[str, Examples], found: Mapping[str, Surveys]) -> Diagnosis:
    """Entropy, effective keys, coverage, sinks, redundancy and logits of each read, and of the layers behind them, for each dataset."""
    measures: list[Measure] = []
    for dataset, mine in found.items():
        if not mine.trained:
            measures.append(not_applicable("entropy", "this model has no attention", of={"dataset": dataset}))
            continue
        for one, twin in zip(mine.trained, mine.twins, strict=True):
            measures += mine.paid(of_layer(dataset, one, twin))
            if one.kind == "read" and not bool(one.sharpness.isnan().all()):
                measures += mine.paid([sink_rate(subject, examples[dataset], one, twin)])
    verdicts = [measure.verdict for measure in measures]
    return Diagnosis(KEY, TITLE, worst(verdicts), _sentence(measures), tuple(measures))


def of_layer(dataset: str, one: LayerSurvey, twin: LayerSurvey | None) -> list[Measure]:
    """Of one call of a layer."""
    of = {"dataset": dataset, "layer": one.layer}
    rows = len(one.coverage)
    sharp, covered = one.sharpness.cpu(), one.coverage.cpu()
    few = bool(sharp.isnan().all())
    if few:
        return [not_applicable("entropy", "there is one key or none to attend to", n=rows, of=of)]
    heads = sharp.nanmean(0)
    narrow = bool((heads < SHARP).float().mean() > 0.5) and float(covered.mean()) < NARROW
    verdict: Verdict = "warning" if narrow and one.kind == "read" else "ok"
    reason = (
        f"most heads attend to next to one key each, and the latents together see {100 * float(covered.mean()):.0f} % of the inputs"
        if verdict == "warning"
        else f"the queries together look at {100 * float(covered.mean()):.0f} % of the keys"
    )
    before = {} if twin is None else {"untrained": float(twin.sharpness.nanmean())}
    value = sharp.nanmean(1)
    value = value[~value.isnan()]  # a row with one key has no choice, and none of this
    interval = bootstrap(value)
    verdict, reason = judged(interval, len(value), verdict, reason)
    made = [Measure("entropy", float(value.mean()), len(value), interval, {"uniform": 1.0, "one key": 0.0} | before, verdict, reason, of)]
    for name, values, reference, told in (
        (
            "effective keys",
            one.effective,
            None if twin is None else twin.effective,
            "keys that a query attends to, as many as would have its entropy",
        ),
        ("coverage", one.coverage, None if twin is None else twin.coverage, "share of the keys that get more than half of an even share"),
        ("diversity of queries", one.query_diversity, None if twin is None else twin.query_diversity, "0 = all queries look at the same places"),
        ("largest logit", one.largest_logit, None if twin is None else twin.largest_logit, "greatest product of a query and a key"),
    ):
        earlier = {} if reference is None else {"untrained": float(reference.mean())}
        made.append(Measure(name, float(values.mean()), rows, bootstrap(values.cpu()), earlier, "ok", told, of))
    made.append(_heads(one, twin, of, rows))
    norms = spectral_norms(one.attention)
    before = {} if twin is None else {"untrained": float(spectral_norms(twin.attention).max())}
    reason = "greatest singular value of W_K W_Q' over the root of the head width: entropy can fall exponentially with it"
    made.append(Measure("spectral norm", float(norms.max()), rows, None, before, "ok", reason, of))
    return made


def _heads(one: LayerSurvey, twin: LayerSurvey | None, of: dict[str, str], rows: int) -> Measure:
    values = one.head_diversity
    if values is None:
        return not_applicable("diversity of heads", "there is one head", n=rows, of=of)
    before = {} if twin is None or twin.head_diversity is None else {"untrained": float(twin.head_diversity.mean())}
    return Measure(
        "diversity of heads", float(values.mean()), rows, bootstrap(values.cpu()), before, "ok", "0 = all heads look at the same places", of
    )


class Judged(NamedTuple):
    """What is said of one sink."""

    verdict: Verdict
    reason: str
    reference: dict[str, float]


def sink_rate(subject: Subject, examples: Examples, one: LayerSurvey, twin: LayerSurvey | None) -> Measure:
    """The share of heads in which one key draws more than 0.3 of all attention, and more than twice an even share, in the mean over rows. Each such
    key is judged by itself."""
    of = {"dataset": examples.dataset, "layer": one.layer}
    found, rows = columns(one), len(one.coverage)
    sure, sinks = rate_interval(one, found), found.sinks()
    reference = {"uniform": 0.0} | ({} if twin is None else {"untrained": columns(twin).rate})
    reference |= {"threshold": SINK, "largest": float(found.received.max())}
    if not sinks:
        verdict, reason = judged(sure, rows, "ok", "no key draws the attention of all rows")
        return Measure("sink rate", 0.0, rows, sure, reference, verdict, reason, of)
    told = [Judged("ok", reason, {"carried": sink.carried}) for sink in sinks if (reason := _harmless(subject, sink))]
    doubtful = [sink for sink in sinks if not _harmless(subject, sink)]
    price = Price()
    if doubtful:
        missing = unlabelled(examples, subject.class_count(examples.dataset))
        if not subject.class_count(examples.dataset):
            return not_applicable("sink rate", f"{_drawn(doubtful[0])}; whether it is needed cannot be told, since {missing}", n=rows, of=of)
        with subject.priced(len(examples)) as spent:
            lost = lost_without(subject, examples, doubtful)
            price = spent()
        told += [(_moved if missing else _needed)(sink, values) for sink, values in zip(doubtful, lost, strict=True)]
    told.sort(key=lambda sink: sink.verdict != "warning")
    reason = "; ".join(sink.reason for sink in told[:TOLD]) + (f"; and {len(told) - TOLD} more such pieces" if len(told) > TOLD else "")
    return Measure("sink rate", found.rate, rows, sure, reference | told[0].reference, told[0].verdict, reason, of, price)


def _drawn(sink: Sink) -> str:
    return f"piece {sink.place + 1} of {sink.segment} gets {100 * sink.mass:.0f} % of a head's attention in the mean over rows"


def _harmless(subject: Subject, sink: Sink) -> str:
    """Why a sink does no harm, whatever answers are without it; empty where that must be seen."""
    if sink.segment not in subject.modalities:
        return f"{_drawn(sink)}, which is what such tokens are for"
    return f"{_drawn(sink)}, but gives next to nothing: a harmless place to look away to" if sink.carried < HARMLESS else ""


def _needed(sink: Sink, lost: Float[Tensor, " n"]) -> Judged:
    """By the accuracy that is lost without it."""
    reference = {"carried": sink.carried, "accuracy lost without it": float(lost.mean())}
    sure = bootstrap(lost)
    if side(sure) > 0:
        reason = f"{_drawn(sink)}, and without it {100 * float(lost.mean()):.0f} points of accuracy are lost: it is needed"
        return Judged("ok", reason, reference)
    if sure is None:
        return Judged("ok", f"{_drawn(sink)}; {few(len(lost))}", reference)
    return Judged("warning", f"{_drawn(sink)}, and nothing is lost without it: register tokens would take it off", reference)


def _moved(sink: Sink, lost: Float[Tensor, " n"]) -> Judged:
    """By how far answers move without it, where nobody knows which are right. That is never below zero, so it takes more than zero to be needed."""
    far = float(lost.mean())
    reference = {"carried": sink.carried, "answers moved without it": far}
    sure = bootstrap(lost)
    if sure is None:
        return Judged("ok", f"{_drawn(sink)}; {few(len(lost))}", reference)
    if sure[1] < MOVED:
        return Judged("warning", f"{_drawn(sink)}, and without it answers hardly move ({far:.2f} of 1): register tokens would take it off", reference)
    return Judged("ok", f"{_drawn(sink)}, and without it answers move by {far:.2f} of 1: it may be needed", reference)


def lost_without(subject: Subject, examples: Examples, sinks: Sequence[Sink]) -> Float[Tensor, "s n"]:
    """What each row loses when one token may not be attended: 1 for an answer that was right and is not, -1 for the opposite. Where it cannot be told
    what is right, how far the probabilities move: half their summed difference, from 0 to 1."""
    before, after = [], []
    with torch.no_grad():
        for batch, count in examples.batches(subject.device):
            before.append(subject.scores(batch)[:count].cpu())
            segments, size = tokens_of(subject, batch)
            after.append(torch.stack([_without(subject, batch, segments, size, sink, before[-1]) for sink in sinks]))
    whole, rest = torch.cat(before), torch.cat(after, 1)
    if unlabelled(examples, subject.class_count(examples.dataset)):
        return (whole.exp() - rest.exp()).abs().sum(-1) / 2
    return (whole.argmax(-1) == examples.target).float() - (rest.argmax(-1) == examples.target).float()


def _without(subject: Subject, batch: Batch, segments: Segments, size: int, sink: Sink, whole: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Answers without a token; as they were in a batch in which nobody has it."""
    width = segments[sink.segment].features.shape[1] if sink.segment in segments else 0
    if sink.place >= width:
        return whole
    keep = torch.ones(size, width, dtype=torch.bool)
    keep[:, sink.place] = False
    with keeping(subject, {sink.segment: keep}):
        return subject.scores(batch)[: len(whole)].cpu()


def _sentence(measures: list[Measure]) -> str:
    """What was found, for people."""
    reads = [measure for measure in measures if measure.name == "effective keys"]
    warned = [measure for measure in measures if measure.verdict == "warning"]
    if not reads:
        return "This model has no attention whose focus could be measured."
    seen = [measure.value or 0.0 for measure in measures if measure.name == "coverage"]
    told = f"The latents together look at {100 * float(torch.tensor(seen).mean()):.0f} % of what there is to see"
    rates = [measure for measure in measures if measure.name == "sink rate"]
    if rates and all(measure.interval is None for measure in rates):
        return f"{told}; {few(rates[0].n)}."
    if not warned:
        drawn = any(measure.value != 0 for measure in rates)
        return f"{told}, and no single piece draws all attention{' that is not known to be needed or harmless' if drawn else ''}."
    return f"{told}, but {warned[0].reason} (in {warned[0].of.get('layer')}, for {warned[0].of.get('dataset')})."
