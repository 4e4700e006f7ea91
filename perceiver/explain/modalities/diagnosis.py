"""Limited view: what is each modality worth to a model, and what becomes of its answers when one is exchanged or missing?"""

from collections.abc import Mapping

from perceiver.explain.examples import Examples
from perceiver.explain.measure import Diagnosis, Measure, Verdict, worst
from perceiver.explain.modalities import missing, perceptual, shapley, utilisation
from perceiver.explain.modalities.coalitions import Coalitions, coalitions
from perceiver.explain.modalities.perceptual import LEAST, SCORE
from perceiver.explain.modalities.shapley import GREEDY, VALUE
from perceiver.explain.subject import Subject
from perceiver.explain.wording import few, listed, side

KEY, TITLE = "view", "Limited view"


def diagnose_view(
    subject: Subject,
    examples: Mapping[str, Examples],
    found: Mapping[str, Coalitions] | None = None,
    *,
    alone: Mapping[str, Mapping[str, float]] | None = None,
    permutations: int = LEAST,
) -> Diagnosis:
    """Measures what each modality of each dataset is worth.

    Args:
        subject: the model, at rest.
        examples: rows by dataset.
        found: their answers by dataset, where they are known already; asked for when not given.
        alone: by dataset and modality, the accuracy of a model trained on that modality alone.
        permutations: times that each modality is exchanged for the perceptual score.
    """
    measures: list[Measure] = []
    sentences = []
    for dataset, rows in examples.items():
        mine = found[dataset] if found is not None else coalitions(subject, rows)
        some = shapley.measures(mine, alone=(alone or {}).get(dataset))
        some += perceptual.measures(subject, rows, mine, permutations=permutations)
        some += utilisation.measures(subject, rows, mine)
        some += missing.measures(mine)
        measures += some
        if not mine.obstacle:
            sentences.append(sentence(dataset, some))
    said = " ".join(sentences) or f"Not applicable: {measures[0].reason}." if measures else "There are no rows."
    return Diagnosis(KEY, TITLE, judged(measures), said, tuple(measures))


def judged(measures: list[Measure]) -> Verdict:
    """A warning where a modality is worth nothing to any dataset, is left aside although there is something in it, or does harm.

    That it is worth nothing to one dataset of several is no fault: a question about the picture does not need the sound.
    """
    values = [measure for measure in measures if measure.name == VALUE and measure.interval is not None]
    used = {measure.of["modality"] for measure in values if side(measure.interval) > 0}
    starved = any(measure.of["modality"] not in used for measure in values)
    harmful = any(side(measure.interval) < 0 or measure.reason.startswith(GREEDY) for measure in values)
    without_values = [measure.verdict for measure in measures if measure.name == VALUE and measure not in values]
    return "warning" if starved or harmful else "ok" if values else worst(without_values)


def sentence(dataset: str, measures: list[Measure]) -> str:
    """What the modalities of a dataset are worth, in plain words."""
    values = [measure for measure in measures if measure.name == VALUE and measure.value is not None]
    if any(measure.interval is None for measure in values):
        return f"In {dataset}, {few(values[0].n)}."
    gain = round(100 * (values[0].reference["with everything"] - values[0].reference["with nothing"]))
    parts = [_part(measure, first=place == 0, gain=gain) for place, measure in enumerate(values)]
    said = f"In {dataset}, {'; '.join(parts)}."
    scores = [measure for measure in measures if measure.name == SCORE and measure.interval is not None and side(measure.interval) == 0]
    repeated = [measure.of["modality"] for measure in scores if measure.verdict == "ok"]
    if repeated:
        said += f" Yet {listed(repeated)} of another row would serve as well: the others say the same, or all these rows need the same of it."
    return said


def _part(measure: Measure, *, first: bool, gain: int) -> str:
    name, value = measure.of["modality"], measure.value or 0.0
    if side(measure.interval) == 0:
        return f"{name} is worth nothing that can be told from 0" if first else f"{name} nothing that can be told from 0"
    how = " by merely being there" if value > 0 and measure.verdict == "warning" else ""
    if not first:
        return f"{name} {100 * value:.0f}{how}"
    return f"{name} is worth {100 * value:.0f}{how} of the {gain} points that answers are better than with nothing given"
