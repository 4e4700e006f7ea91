"""Examination: one run through all that a report holds, from a model and its rows to the report."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from perceiver.explain import beyond, bill, calibration, modalities, simplification
from perceiver.explain.attention import combination, detail, focus
from perceiver.explain.belief import belief
from perceiver.explain.budget import (
    Budget,
    Tell,
    attention_passes,
    faithfulness_passes,
    integration_passes,
    simplification_passes,
    worth_passes,
)
from perceiver.explain.calibration import diagnose_predictions
from perceiver.explain.examples import Examples, answers, gather, pooled
from perceiver.explain.faithfulness import diagnosis as faithfulness
from perceiver.explain.faithfulness.explanations import INTEGRATED
from perceiver.explain.findings import Report
from perceiver.explain.measure import Diagnosis, Price
from perceiver.explain.modalities import Coalitions, coalitions, diagnose_view
from perceiver.explain.right import right
from perceiver.explain.samples import samples as show_samples
from perceiver.explain.subject import Batch, Scores, Subject
from perceiver.explain.table import Results
from perceiver.explain.untrained import untrained
from perceiver.explain.views import Plain, view_of
from perceiver.explain.wording import listed
from perceiver.rest import at_rest

TOGETHER = "all kinds"
VIEW = (modalities.diagnosis.KEY, modalities.diagnosis.TITLE)
PREDICTION = (calibration.diagnosis.KEY, calibration.diagnosis.TITLE)


def report(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    validation: Iterable[Batch] | None = None,
    rows: int = 400,
    samples: int = 24,
    scores: Scores | None = None,
    classes: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    results: Results | None = None,
    title: str = "How the modalities were combined",
    budget_passes: int | None = None,
    tell: Tell = lambda line: None,
) -> Report:
    """Measures how a model combines its modalities, and whether the picture of its attention is true.

    Outputs of the model stay what they are, bit for bit; it is asked in evaluation mode, and afterwards is as it was.

    Args:
        model: a task of `perceiver.tasks`, or a model with `inputs`.
        loader: batches that the model was not trained on, with `target`, and `dataset` where there are several.
        validation: other batches, to fit the temperature to.
        rows: of each dataset at most, drawn at random.
        samples: rows that the page shows, equally many of each dataset.
        scores: from a batch to scores of classes before the softmax, where the model itself gives something else.
        classes: names of the classes.
        results: of the run, with those of its controls (`metrics.json`).
        title: of the page.
        budget_passes: forward passes over the rows that may be spent; what is too dear says so in place of its measures.
        tell: is told what is about to be done, and its price.

    Raises:
        ValueError: when a number is out of range, the loader gives no row, or the model has no `inputs` or gives no scores.
    """
    if rows < 1 or samples < 0:
        raise ValueError(f"rows={rows} and samples={samples}: give at least one row, and no negative number of samples")
    budget = Budget(budget_passes, tell)
    subject = Subject(model, scores=scores, classes=classes)
    with at_rest(model):
        examples = gather(subject, loader, rows)
        first = next(iter(examples.values()))
        subject.learn_classes(next(first.batches(subject.device))[0])
        others = {} if validation is None else gather(subject, validation, rows)
        return _Examination(subject, examples, others, dict(results or {}), budget).report(title, samples)


class _Examination:
    """One run through all diagnoses.

    Args:
        subject: the model, at rest.
        examples: rows by dataset.
        validation: other rows by dataset.
        results: of the run.
        budget: what may be spent.
    """

    def __init__(
        self, subject: Subject, examples: dict[str, Examples], validation: dict[str, Examples], results: dict[str, float], budget: Budget
    ) -> None:
        self.subject, self.examples, self.validation, self.results, self.budget = subject, examples, validation, results, budget

    def report(self, title: str, samples: int) -> Report:
        """All of it."""
        subject, examples = self.subject, self.examples
        self.twin = untrained(subject.model) if subject.asks_plainly else None
        together = {TOGETHER: pooled(examples, TOGETHER)} if len(examples) > 1 and subject.pool(TOGETHER) else {}
        self.kinds = together | examples
        self.count = len([name for name in subject.modalities if any(some.has(name).any() for some in examples.values())])
        surveys, combines, focused = self._attention()
        found, view, simplified, predictions = self._worth()
        faithful, trials = self._faithfulness()
        accuracy = {name: float(right(mine.full, mine.target).mean()) for name, mine in found.items() if mine.log_probabilities}
        rungs = beyond.ladder(self.results, tuple(examples))
        mine = [value for name, value in accuracy.items() if name in examples]  # their rows together would count twice
        mean = sum(mine) / len(mine) if mine else None
        cost, bill_of = bill.diagnose(subject, examples, mean)
        climbed = beyond.diagnose(rungs, {name: int(self.results.get(f"test/rows/{name}", 0)) for name in examples})
        diagnoses = (combines, focused, simplified, view, predictions, faithful, climbed, cost)
        return Report(
            title=title,
            subtitle=self._subtitle(),
            asked=self._asked(),
            modalities=tuple({"name": name, "view": view_of(adapter)} for name, adapter in subject.model.inputs.adapters.items()),
            rows={name: len(some) for name, some in self.kinds.items()},
            accuracy=accuracy,
            belief=belief([one for diagnosis in diagnoses for one in diagnosis.measures if one.of.get("dataset") != TOGETHER], trials),
            diagnoses=diagnoses,
            attention=detail.by_latent(surveys) | {"output queries": {name: detail.by_query(subject, some) for name, some in examples.items()}},
            explanations=tuple(_explanation(trial) for trial in trials.values()),
            samples=tuple(self._samples(samples, trials)),
            ladder=tuple(rungs),
            cost=bill.as_table(bill_of),
            results=self.results,
        )

    def _attention(self) -> tuple[dict[str, combination.Surveys], Diagnosis, Diagnosis]:
        """How attention combines, and narrow focus."""
        passes = attention_passes(self.count)
        if not self.budget.affords("attention of every layer", passes):
            return {}, *(self.budget.left_out(one.KEY, one.TITLE, passes) for one in (combination, focus))  # type: ignore[return-value]
        surveys = {name: combination.surveys(self.subject, some, self.twin) for name, some in self.kinds.items()}
        combines = combination.diagnose(self.subject, self.kinds, surveys)
        return surveys, combines, focus.diagnose(self.subject, self.examples, {name: surveys[name] for name in self.examples})

    def _worth(self) -> tuple[dict[str, Coalitions], Diagnosis, Diagnosis, Diagnosis]:
        """Limited view, oversimplification and inaccurate predictions, which all rest on the answers to each set of modalities."""
        sets, exchanges, pairings = 2**self.count, worth_passes(self.count), simplification_passes(self.count)
        if not self.budget.affords("answers with every set of modalities", sets):
            left_out = [self.budget.left_out(key, title, sets) for key, title in (VIEW, (simplification.KEY, simplification.TITLE), PREDICTION)]
            return {}, left_out[0], left_out[1], left_out[2]
        found = {name: coalitions(self.subject, some) for name, some in self.kinds.items()}
        if self.budget.affords("what each modality is worth", exchanges):
            alone = beyond.alone(self.results, self.subject.modalities, tuple(self.examples))
            view = diagnose_view(self.subject, self.kinds, found, alone=alone)
        else:
            view = self.budget.left_out(*VIEW, exchanges)
        if self.budget.affords("rank of the latents, and the nearest additive model", pairings):
            simplified = simplification.diagnose(self.subject, self.examples, self.kinds, found, self.twin)
        else:
            simplified = self.budget.left_out(simplification.KEY, simplification.TITLE, pairings)
        validation, price = self._validated()
        return found, view, simplified, diagnose_predictions(found, validation, price=price)

    def _faithfulness(self) -> tuple[Diagnosis, dict[str, faithfulness.Trial]]:
        """Lack of comprehensiveness, of each explanation that can be paid."""
        kinds = faithfulness.kinds_for(self.subject, next(iter(self.examples.values())))
        passes = faithfulness_passes(len(kinds))
        if not self.budget.affords("explanations against random order", passes):
            return self.budget.left_out(faithfulness.KEY, faithfulness.TITLE, passes), {}
        dear = not self.budget.affords("integrated gradients", integration_passes())
        return faithfulness.diagnose(self.subject, self.examples, without=(INTEGRATED,) if dear else ())

    def _validated(self) -> tuple[dict[str, Any], Price]:
        """Answers to the rows that the temperature is fitted to, those of all datasets together among them, and what they cost."""
        some = {name: rows for name, rows in self.validation.items() if self.subject.class_count(name)}
        if TOGETHER in self.kinds and some.keys() == self.examples.keys():
            some[TOGETHER] = pooled(some, TOGETHER)
        with self.subject.priced(sum(map(len, some.values()))) as price:
            found = {name: (answers(self.subject, rows), _targets(rows)) for name, rows in some.items()}
            return found, price()

    def _samples(self, number: int, trials: Mapping[str, faithfulness.Trial]) -> list[Plain]:
        with_classes = [some for name, some in self.examples.items() if self.subject.class_count(name)]
        if not with_classes or not number:
            return []
        each = max(1, number // len(with_classes))
        return [entry for some in with_classes for entry in show_samples(self.subject, some.first(each), trials)]

    def _subtitle(self) -> str:
        parameters = sum(p.numel() for p in self.subject.model.parameters())
        trained = (
            f", trained {self.results['train/steps']:,.0f} steps in {self.results['train/seconds']:.0f} s" if "train/seconds" in self.results else ""
        )
        sizes = sorted({len(some) for some in self.examples.values()})
        each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        model = type(self.subject.model).__name__
        return f"{model} with {parameters:,} parameters{trained}; {each} rows of each kind, {date.today().isoformat()}"

    def _asked(self) -> str:
        names = list(self.examples)
        counts = sorted({self.subject.class_count(name) for name in names if self.subject.class_count(name)})
        classes = f", each with one answer out of {' or '.join(map(str, counts))}" if counts else ""
        kinds = f"{len(names)} kinds of question ({listed(names)})" if len(names) > 1 else f"one kind of question ({names[0]})"
        return f"The model was given {listed(self.subject.modalities)}, or those of them that there were, and asked {kinds}{classes}."


def _targets(examples: Examples) -> Int[Tensor, " n"]:
    """The right class of each row; -1 where there is none."""
    return torch.stack([row.get("target", torch.tensor(-1)).long() for row in examples.rows])


def _explanation(trial: faithfulness.Trial) -> dict[str, Any]:
    reasons = {dataset: reason for dataset, reason in trial.reasons.items() if reason}
    shown = len(reasons) < len(trial.reasons)
    sentence = "; ".join(f"{dataset}: {reason}" for dataset, reason in reasons.items()) or "better than marks at random for every kind of question"
    return {"name": trial.explanation.name, "label": trial.explanation.label, "shown": shown, "sentence": sentence, "reasons": reasons}
