"""The report: how a model combines its modalities, and whether the picture of its attention is true.

    found = perceiver.explain.report(task, loader)
    print(*found.summary(), sep="\n")
    found.write(Path("explanation"))     # report.json, report.html, summary.txt

Six diagnoses and two more: how attention combines, narrow focus, oversimplification, limited view, inaccurate predictions, lack of comprehensiveness;
what there is beyond attention, and what it costs. Each has a verdict, one plain sentence, and the measures that it rests on.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from perceiver.explain import beyond, bill, simplification
from perceiver.explain.attention import combination, detail, focus
from perceiver.explain.belief import Belief, belief, modalities
from perceiver.explain.calibration import diagnose_predictions
from perceiver.explain.examples import Examples, answers, gather, pooled
from perceiver.explain.faithfulness import diagnosis as faithfulness
from perceiver.explain.measure import Diagnosis, Measure
from perceiver.explain.modalities import coalitions, diagnose_view
from perceiver.explain.modalities.shapley import VALUE
from perceiver.explain.page import write_page
from perceiver.explain.right import right
from perceiver.explain.samples import samples as show_samples
from perceiver.explain.subject import Batch, Scores, Subject, at_rest
from perceiver.explain.table import Results, by_dataset, names_of, remarks
from perceiver.explain.untrained import untrained
from perceiver.explain.views import Plain, view_of
from perceiver.explain.wording import listed

Tell = Callable[[str], None]
TOGETHER = "all together"


@dataclass(frozen=True)
class Report:
    """All that was found.

    Attributes:
        title: of the page.
        subtitle: what was measured, and when.
        asked: what the model was asked, in one sentence.
        modalities: names and views.
        rows: of each dataset.
        accuracy: of each dataset that has labels.
        belief: may the picture of attention be believed?
        diagnoses: in their order.
        attention: numbers head by head and latent by latent, for each dataset and read.
        explanations: ways to mark the pieces behind an answer, and where they may be shown.
        samples: rows to look at.
        ladder: simpler models on the same budget.
        cost: a table.
        results: of the run, where there is one.
    """

    title: str
    subtitle: str
    asked: str
    modalities: tuple[Mapping[str, str], ...]
    rows: Mapping[str, int]
    accuracy: Mapping[str, float]
    belief: Belief
    diagnoses: tuple[Diagnosis, ...]
    attention: Mapping[str, Any]
    explanations: tuple[Mapping[str, Any], ...]
    samples: tuple[Plain, ...]
    ladder: tuple[beyond.Rung, ...]
    cost: Mapping[str, Any]
    results: Results = field(default_factory=dict)

    @property
    def measures(self) -> list[Measure]:
        """Of all diagnoses."""
        return [measure for diagnosis in self.diagnoses for measure in diagnosis.measures]

    def diagnosis(self, key: str) -> Diagnosis:
        """One of them.

        Raises:
            KeyError: when there is none of that name.
        """
        return {diagnosis.key: diagnosis for diagnosis in self.diagnoses}[key]

    def summary(self) -> list[str]:
        """A line for each diagnosis, and before them what may be believed."""
        marks = {"ok": "ok", "warning": "WARNING", "not applicable": "n/a"}
        lines = [f"{self.asked}", f"May the picture of attention be believed? [{marks[self.belief.verdict]}] {self.belief.sentence}"]
        return lines + [f"{diagnosis.title} [{marks[diagnosis.verdict]}]: {diagnosis.sentence}" for diagnosis in self.diagnoses]

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data, without the samples."""
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "asked": self.asked,
            "rows": dict(self.rows),
            "accuracy": dict(self.accuracy),
            "belief": self.belief._asdict(),
            "worth": self._worth(),
            "diagnoses": [diagnosis.as_dict() for diagnosis in self.diagnoses],
            "explanations": [dict(one) for one in self.explanations],
            "attention": self.attention,
            "ladder": [rung.as_dict() for rung in self.ladder],
            "cost": dict(self.cost),
        }

    def payload(self) -> dict[str, Any]:
        """What the page shows; see `perceiver.explain.page`."""
        datasets = list(self.rows)
        found = {key: value for key, value in self.as_dict().items() if key not in ("attention", "rows")}
        found |= self._masses() | {
            "modalities": list(self.modalities),
            "layers": list(self.samples[0]["mass"]) if self.samples else [],
            "datasets": datasets,
            "remarks": remarks(self.results, datasets),
            "accuracy_without": {
                n: by_dataset(self.results, f"test/accuracy_without_{n}", datasets) for n in names_of(self.results, "accuracy_without_")
            },
            "baselines": {n: by_dataset(self.results, f"test/baseline_{n}", datasets) for n in names_of(self.results, "baseline_")},
            "ladder": {"sentence": self.diagnosis(beyond.KEY).sentence, "rows": [rung.as_dict() for rung in self.ladder]},
            "samples": list(self.samples),
        }
        return found

    def write(self, folder: Path) -> None:
        """Writes `report.json`, `report.html` and `summary.txt`, each whole or not at all.

        Raises:
            OSError: when the folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("report.json", json.dumps(rounded(self.as_dict()), indent=1, allow_nan=False) + "\n"),
            ("summary.txt", "\n\n".join(self.summary()) + "\n"),
        ):
            part = folder / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            os.replace(part, folder / name)
        write_page(rounded(self.payload()), folder / "report.html")

    def _worth(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for measure in self.measures:
            if measure.name == VALUE and measure.value is not None:
                mine = {"value": measure.value, "interval": measure.interval}
                found.setdefault(measure.of["dataset"], {})[measure.of["modality"]] = mine
        return found

    def _masses(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean mass over the reads, and share of the tokens, by modality and dataset."""
        mass: dict[str, dict[str, float]] = {}
        share: dict[str, dict[str, float]] = {}
        for one in modalities(self.measures):
            mass.setdefault(one.name, {})[one.dataset] = one.mass
            share.setdefault(one.name, {})[one.dataset] = one.even
        return {"mass": mass, "token_share": share}


def rounded(value: Any) -> Any:
    """Numbers with six digits, in plain data. What is no number (NaN, infinity) is None: JSON has no word for it."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


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
        tell: is told what is being done.

    Raises:
        ValueError: when a number is below 1, the loader gives no row, or the model has no `inputs` or gives no scores.
    """
    if rows < 1 or samples < 0:
        raise ValueError(f"rows={rows} and samples={samples}: give at least one row, and no negative number of samples")
    subject = Subject(model, scores=scores, classes=classes)
    with at_rest(model):
        examples = gather(subject, loader, rows)
        first = next(iter(examples.values()))
        subject.learn_classes(next(first.batches(subject.device))[0])
        others = {} if validation is None else gather(subject, validation, rows)
        return _Reporter(subject, examples, others, dict(results or {}), tell).report(title, samples)


class _Reporter:
    """One run through all diagnoses.

    Args:
        subject: the model, at rest.
        examples: rows by dataset.
        validation: other rows by dataset.
        results: of the run.
        tell: is told what is being done.
    """

    def __init__(
        self, subject: Subject, examples: dict[str, Examples], validation: dict[str, Examples], results: dict[str, float], tell: Tell
    ) -> None:
        self.subject, self.examples, self.validation, self.results, self.tell = subject, examples, validation, results, tell

    def report(self, title: str, samples: int) -> Report:
        """All of it."""
        subject, examples = self.subject, self.examples
        twin = untrained(subject.model) if subject.asks_plainly else None
        together = {TOGETHER: pooled(examples, TOGETHER)} if len(examples) > 1 and subject.pool(TOGETHER) else {}
        kinds = together | examples
        self.tell("attention of every layer")
        surveys = {name: combination.surveys(subject, some, twin) for name, some in kinds.items()}
        combines = combination.diagnose(subject, kinds, surveys)
        focused = focus.diagnose(subject, examples, {name: surveys[name] for name in examples})
        self.tell("answers with every set of modalities")
        found = {name: coalitions(subject, some) for name, some in kinds.items()}
        self.tell("what each modality is worth")
        view = diagnose_view(subject, kinds, found, alone=beyond.alone(self.results, subject.modalities, tuple(examples)))
        predictions = diagnose_predictions(found, self._validated())
        self.tell("rank of the latents, and the nearest additive model")
        simplified = simplification.diagnose(subject, examples, kinds, found, twin)
        self.tell("explanations against random order")
        faithful, trials = faithfulness.diagnose(subject, examples)
        accuracy = {name: float(right(mine.full, mine.target).mean()) for name, mine in found.items() if mine.log_probabilities}
        rungs = beyond.ladder(self.results, tuple(examples))
        mean = sum(accuracy.values()) / len(accuracy) if accuracy else None
        cost, bill_of = bill.diagnose(subject, next(iter(examples.values())), mean)
        climbed = beyond.diagnose(rungs, {name: int(self.results.get(f"test/rows/{name}", 0)) for name in examples})
        diagnoses = (combines, focused, simplified, view, predictions, faithful, climbed, cost)
        self.tell("samples")
        return Report(
            title=title,
            subtitle=self._subtitle(),
            asked=self._asked(),
            modalities=tuple({"name": name, "view": view_of(adapter)} for name, adapter in subject.model.inputs.adapters.items()),
            rows={name: len(some) for name, some in kinds.items()},
            accuracy=accuracy,
            belief=belief([measure for diagnosis in diagnoses for measure in diagnosis.measures], trials),
            diagnoses=diagnoses,
            attention=detail.by_latent(surveys) | {"output queries": {name: detail.by_query(subject, some) for name, some in examples.items()}},
            explanations=tuple(_explanation(trial) for trial in trials.values()),
            samples=tuple(self._samples(samples, trials)),
            ladder=tuple(rungs),
            cost=bill.as_table(bill_of),
            results=self.results,
        )

    def _validated(self) -> dict[str, Any]:
        """Answers to the rows that the temperature is fitted to."""
        return {
            name: (answers(self.subject, some), some.target)
            for name, some in self.validation.items()
            if some.labelled and self.subject.class_count(name)
        }

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


def _explanation(trial: faithfulness.Trial) -> dict[str, Any]:
    reasons = {dataset: reason for dataset, reason in trial.reasons.items() if reason}
    shown = len(reasons) < len(trial.reasons)
    sentence = "; ".join(f"{dataset}: {reason}" for dataset, reason in reasons.items()) or "better than marks at random for every kind of question"
    return {"name": trial.explanation.name, "label": trial.explanation.label, "shown": shown, "sentence": sentence, "reasons": reasons}
