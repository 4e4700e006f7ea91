"""Samples: single rows with what the model saw, where it looked, what its answer rests on, and what it answers when something is taken away, as
plain data for a page.

Letters: b rows, h heads, m tokens of a modality.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from perceiver.adapters.presence import removable
from perceiver.explain.attention.passage import Weighed, following, label, numbered
from perceiver.explain.attention.statistics import statistics
from perceiver.explain.examples import Examples, answers
from perceiver.explain.faithfulness.diagnosis import Trial
from perceiver.explain.pieces import attendable, tokens_of
from perceiver.explain.subject import Subject
from perceiver.explain.views import Plain, map_of, show

MOST_TOGETHER = 4  # modalities of which all sets are taken away; of more, one at a time


class Maps(NamedTuple):
    """How the tokens of a batch lie.

    Attributes:
        masks: which of them each row has, by modality.
        grids: their grid, by modality.
    """

    masks: Mapping[str, Tensor]
    grids: Mapping[str, tuple[int, ...]]

    def of(self, modality: str, row: int, weights: Tensor) -> Any:
        """A row's map of one value a token."""
        return map_of(weights, self.masks[modality][row], self.grids[modality])

    def has(self, modality: str, row: int) -> bool:
        """Whether a row has a modality."""
        return modality in self.masks and bool(self.masks[modality][row].any())


def samples(subject: Subject, examples: Examples, trials: Mapping[str, Trial] | None = None) -> list[Plain]:
    """One entry a row, as `perceiver.explain.page` describes it.

    Args:
        subject: the model.
        examples: rows of one dataset that has classes.
        trials: explanations that were tested; those that are better than random order for this dataset are shown.
    """
    batch, _ = next(replace(examples, batch_size=len(examples)).batches(subject.device))
    segments, size = tokens_of(subject, batch)
    masks = attendable(segments, size)
    entries = [_answered(subject, examples, row, scores) for row, scores in enumerate(answers(subject, examples))]
    for names, scores in _removed(subject, examples, batch):
        labels = subject.class_names(examples.dataset)
        for row, entry in enumerate(entries):
            here = [name for name in subject.modalities if name in examples.rows[row]]
            if set(names) < set(here):
                best = int(scores[row].argmax())
                entry["without"]["+".join(names)] = {"answer": labels[best], "probability": round(float(scores[row, best].exp()), 4)}
    for row, entry in enumerate(entries):
        for name in subject.modalities:
            if name in examples.rows[row]:
                entry["inputs"][name] = show(subject.model.inputs.adapters[name], examples.rows[row][name])
    maps = Maps(masks, {name: tokens.grid for name, tokens in segments.items()})
    _look(subject, batch, entries, maps)
    _explain(subject, batch, examples, entries, maps, trials or {})
    return entries


def _answered(subject: Subject, examples: Examples, row: int, scores: Tensor) -> Plain:
    labels = subject.class_names(examples.dataset)
    best = scores.exp().topk(min(3, len(scores)))
    target = examples.rows[row].get("target")
    return {
        "dataset": examples.dataset,
        "expected": labels[int(target)] if target is not None and 0 <= int(target) < len(labels) else "unknown",
        "answer": labels[int(best.indices[0])],
        "probability": round(float(best.values[0]), 4),
        "top": [[labels[int(i)], round(float(p), 4)] for p, i in zip(best.values, best.indices, strict=True)],
        "without": {},
        "inputs": {},
        "attention": {},
        "mass": {},
        "explanations": {},
    }


def _removed(subject: Subject, examples: Examples, batch: Mapping[str, Tensor]) -> list[tuple[tuple[str, ...], Tensor]]:
    """What the model answers without each set of modalities that leaves something."""
    names = removable(batch, [name for name in subject.modalities if any(name in row for row in examples.rows)])
    sizes = range(1, len(names)) if len(names) <= MOST_TOGETHER else [1]
    found = []
    for count in sizes:
        for gone in combinations(names, count):
            kept = [name for name in subject.modalities if name not in gone]
            found.append((gone, answers(subject, examples.only(kept, subject.modalities))))
    return found


def _look(subject: Subject, batch: Mapping[str, Tensor], entries: Sequence[Plain], maps: Maps) -> None:
    """Adds where each head of each read looked, mean over latents, and the mass by segment."""
    with following(subject.model) as passage, torch.no_grad():
        subject.scores(batch)
    reads = passage().reads
    for name, call in zip(numbered([label(call.layer) for call in reads]), reads, strict=True):
        found = statistics(Weighed(call))
        for row, entry in enumerate(entries):
            entry["mass"][name] = {segment: round(float(mass[row].mean()), 4) for segment, mass in found.mass.items() if float(mass[row].sum()) > 0}
            received = dict(zip(found.sizes, found.received[row].split(list(found.sizes.values()), -1), strict=True))
            entry["attention"][name] = {
                segment: [maps.of(segment, row, head) for head in heads] for segment, heads in received.items() if maps.has(segment, row)
            }


def _explain(
    subject: Subject, batch: Mapping[str, Tensor], examples: Examples, entries: Sequence[Plain], maps: Maps, trials: Mapping[str, Trial]
) -> None:
    """Adds what each explanation says that may be shown, with 1 for the piece that counts most."""
    with torch.no_grad():
        chosen = subject.scores(batch).argmax(1)
    for name, trial in trials.items():
        if trial.reasons.get(examples.dataset, "not tested"):
            continue
        relevance = trial.explanation.explain(subject, batch, chosen)
        for row, entry in enumerate(entries):
            mine = {modality: part[row] for modality, part in relevance.items() if maps.has(modality, row)}
            top = max((float(part.abs().max()) for part in mine.values()), default=0.0) or 1.0
            entry["explanations"][name] = {modality: maps.of(modality, row, part / top) for modality, part in mine.items()}
