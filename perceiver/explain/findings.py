"""Findings: the report on how a model combines its modalities, and whether the picture of its attention is true.

    found = perceiver.explain.report(task, loader)
    print(*found.summary(), sep="\n")
    found.write(Path("explanation"))     # report.json, report.html, summary.txt

Six diagnoses and two more: how attention combines, narrow focus, oversimplification, limited view, inaccurate predictions, lack of comprehensiveness;
what there is beyond attention, and what it costs. Each has a verdict, one plain sentence, and the measures that it rests on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perceiver.explain import beyond
from perceiver.explain.belief import Belief, modalities
from perceiver.explain.measure import Diagnosis, Measure
from perceiver.explain.modalities.shapley import VALUE
from perceiver.explain.page import write_page
from perceiver.explain.table import Results, by_dataset, names_of, remarks
from perceiver.explain.views import Plain


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
