"""Oversimplification: do the latents become one and the same, and does the model do more than add up what each modality says?"""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from perceiver.explain import latents
from perceiver.explain.examples import Examples
from perceiver.explain.measure import Diagnosis, Measure, worst
from perceiver.explain.modalities import Coalitions, interaction, perceptual
from perceiver.explain.subject import Subject
from perceiver.explain.wording import listed, side

KEY, TITLE = "simplification", "Oversimplification"


def diagnose(
    subject: Subject, examples: Mapping[str, Examples], kinds: Mapping[str, Examples], found: Mapping[str, Coalitions], twin: nn.Module | None
) -> Diagnosis:
    """Rank of the latents by depth for each dataset, and the gap to the nearest additive model.

    Args:
        subject: the model, at rest.
        examples: rows by dataset.
        kinds: the same, with those of all datasets together where that can be asked.
        found: answers to each set of the modalities of these.
        twin: the model before training; None where there is none.
    """
    ranks = latents.measures(subject, examples, twin)
    gaps = [one for name, some in kinds.items() for one in _gaps(subject, some, found[name])]
    measures = (*ranks, *gaps)
    return Diagnosis(KEY, TITLE, worst([measure.verdict for measure in measures]), _sentence(ranks, gaps), measures)


def _gaps(subject: Subject, examples: Examples, found: Coalitions) -> list[Measure]:
    """The interaction gaps. Where one modality alone tells the rows of a dataset apart, there is nothing for it to interact with, and it is no fault
    that the model only adds up. That interactions make answers worse is one all the same."""
    gaps = interaction.measures(subject, examples, found)
    if not any(map(_adds_up, gaps)):
        return gaps
    scores = [one for one in perceptual.measures(subject, examples, found) if one.name == perceptual.SCORE and one.value is not None]
    deciding = [one.of["modality"] for one in scores if side(one.interval) > 0]
    if len(deciding) > 1 or not scores:
        return gaps
    what = f"{deciding[0]} alone tells these rows apart" if deciding else "no modality tells these rows apart"
    said = f"; {what}, so that there is nothing to combine"
    return [replace(gap, verdict="ok", reason=gap.reason + said) if _adds_up(gap) else gap for gap in gaps]


def _adds_up(gap: Measure) -> bool:
    """Whether a gap is warned of because it cannot be told from 0."""
    return gap.verdict == "warning" and side(gap.interval) == 0


def _sentence(ranks: list[Measure], gaps: list[Measure]) -> str:
    """What was found, for people."""
    told = [gap for gap in gaps if gap.name == interaction.GAP and gap.interval is not None]
    more = [gap.of["dataset"] for gap in told if side(gap.interval) > 0]
    worse = [gap.of["dataset"] for gap in told if side(gap.interval) < 0]
    less = [gap.of["dataset"] for gap in told if _adds_up(gap)]
    alone = [gap.of["dataset"] for gap in told if gap.of["dataset"] not in (*more, *worse, *less)]
    said = []
    if more:
        said.append(f"For {listed(more)} the model does more than add up what each modality says.")
    if worse:
        said.append(f"For {listed(worse)} interactions make answers worse: adding up what each modality says would do better.")
    if less:
        said.append(f"For {listed(less)} adding up what each modality says would do as well.")
    if alone:
        said.append(f"For {listed(alone)} one modality alone tells the rows apart, and there is nothing to combine.")
    widths = [rank for rank in ranks if rank.name == "effective rank" and rank.value is not None]
    if widths:
        share = sum((rank.value or 0.0) / rank.reference["most"] for rank in widths) / len(widths)
        said.append(f"The latents use {100 * share:.0f} % of the directions that they could, mean over depth.")
    return " ".join(said) or "Neither latents nor interactions could be measured here."
