"""Narrow focus: does attention stare at few places, and is that harmful?

Sharp attention alone is no fault: one key may be all that is needed. It is one where the inputs are hardly covered as well, or where one key draws
the attention of all rows although it carries something (a key that carries next to nothing is a harmless place to put attention that is not needed;
Gu et al. 2024, "When Attention Sink Emerges in Language Models").

Letters: n rows, h heads.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.explain.attention.combination import Surveys
from perceiver.explain.attention.statistics import spectral_norms
from perceiver.explain.attention.survey import LayerSurvey, Sink
from perceiver.explain.examples import Examples
from perceiver.explain.measure import Diagnosis, Measure, Verdict, bootstrap, not_applicable, worst
from perceiver.explain.pieces import keeping, tokens_of
from perceiver.explain.subject import Subject

KEY, TITLE = "focus", "Narrow focus"
SHARP, NARROW, SINK = 0.1, 0.1, 0.3  # normalised entropy; share of the keys; attention on one key
HARMLESS = 0.1  # of what the mean key gives


def diagnose(subject: Subject, examples: Mapping[str, Examples], found: Mapping[str, Surveys]) -> Diagnosis:
    """Entropy, effective keys, coverage, sinks, redundancy and logits of each read, and of the layers behind them, for each dataset."""
    measures: list[Measure] = []
    for dataset, mine in found.items():
        if not mine.trained:
            measures.append(not_applicable("entropy", "this model has no attention", of={"dataset": dataset}))
            continue
        for one, twin in zip(mine.trained, mine.twins, strict=True):
            measures += of_layer(dataset, one, twin)
            if one.kind == "read" and not bool(one.sharpness.isnan().all()):
                measures.append(_sink(subject, examples[dataset], one, {"dataset": dataset, "layer": one.layer}, len(one.coverage)))
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
    made = [Measure("entropy", float(value.nanmean()), rows, bootstrap(value), {"uniform": 1.0, "one key": 0.0} | before, verdict, reason, of)]
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
    reason = "greatest singular value of W_K W_Q' over the root of the head width: entropy can fall exponentially with it"
    made.append(Measure("spectral norm", float(norms.max()), rows, None, {}, "ok", reason, of))
    return made


def _heads(one: LayerSurvey, twin: LayerSurvey | None, of: dict[str, str], rows: int) -> Measure:
    values = one.head_diversity
    if values is None:
        return not_applicable("diversity of heads", "there is one head", n=rows, of=of)
    before = {} if twin is None or twin.head_diversity is None else {"untrained": float(twin.head_diversity.mean())}
    return Measure(
        "diversity of heads", float(values.mean()), rows, bootstrap(values.cpu()), before, "ok", "0 = all heads look at the same places", of
    )


def _sink(subject: Subject, examples: Examples, one: LayerSurvey, of: dict[str, str], rows: int) -> Measure:
    """The share of heads in which one key draws more than 0.3 of all attention, in the mean over rows."""
    sink = one.sink()
    rate, most = float((sink.mass > SINK).float().mean()), float(sink.mass.max())
    reference = {"threshold": SINK, "largest": most, "carried": sink.carried}
    if not rate:
        return Measure("sink rate", 0.0, rows, None, reference, "ok", "no key draws the attention of all rows", of)
    told = f"piece {sink.place + 1} of {sink.segment} gets {100 * most:.0f} % of a head's attention in the mean over rows"
    if sink.segment not in subject.modalities:
        return Measure("sink rate", rate, rows, None, reference, "ok", f"{told}, which is what such tokens are for", of)
    if sink.carried < HARMLESS:
        return Measure("sink rate", rate, rows, None, reference, "ok", f"{told}, but gives next to nothing: a harmless place to look away to", of)
    with subject.priced(len(examples)) as price:
        lost = lost_without(subject, examples, sink)
    reference["accuracy lost without it"] = float(lost.mean())
    interval = bootstrap(lost)
    if interval is not None and interval[0] > 0:
        reason = f"{told}, and without it {100 * float(lost.mean()):.0f} points of accuracy are lost: it is needed"
        return Measure("sink rate", rate, rows, None, reference, "ok", reason, of, price())
    reason = f"{told}, and nothing is lost without it: register tokens would take it off"
    return Measure("sink rate", rate, rows, None, reference, "warning", reason, of, price())


def lost_without(subject: Subject, examples: Examples, sink: Sink) -> Float[Tensor, " n"]:
    """What each row loses when one token may not be attended: 1 for an answer that was right and is not, -1 for the opposite. Where nothing is right
    or wrong, how far the probabilities move."""
    scores = []
    with torch.no_grad():
        for batch, count in examples.batches(subject.device):
            whole = subject.scores(batch)[:count].cpu()
            segments, size = tokens_of(subject, batch)
            keep = torch.ones(size, segments[sink.segment].features.shape[1], dtype=torch.bool)
            keep[:, sink.place] = False
            with keeping(subject, {sink.segment: keep}):
                scores.append((whole, subject.scores(batch)[:count].cpu()))
    before, after = (torch.cat(parts) for parts in zip(*scores, strict=True))
    if not examples.labelled:
        return (before.exp() - after.exp()).abs().sum(1) / 2
    return (before.argmax(1) == examples.target).float() - (after.argmax(1) == examples.target).float()


def _sentence(measures: list[Measure]) -> str:
    """What was found, for people."""
    reads = [measure for measure in measures if measure.name == "effective keys"]
    warned = [measure for measure in measures if measure.verdict == "warning"]
    if not reads:
        return "This model has no attention whose focus could be measured."
    seen = [measure.value or 0.0 for measure in measures if measure.name == "coverage"]
    told = f"The latents together look at {100 * float(torch.tensor(seen).mean()):.0f} % of what there is to see"
    if not warned:
        return f"{told}, and no single piece draws all attention."
    return f"{told}, but {warned[0].reason} (in {warned[0].of.get('layer')}, for {warned[0].of.get('dataset')})."
