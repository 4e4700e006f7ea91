"""Run folder: the one place that a run writes to.

config.yaml         the whole configuration of the fit, written before its first step
metrics.csv         what was logged, step by step
metrics.json        flat results: test accuracies, baselines, attention mass, seconds of training
checkpoints/        best.ckpt and last.ckpt
controls/<name>/    the same for each control
table.txt           the results as a table, as printed
report.html         the report of the test
explanation/        the whole report (`perceiver explain`): report.html, report.json, summary.txt
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


class RunFolder:
    """A run's folder and the names of what lies in it.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.metrics_json = self.path / "metrics.json"
        self.table = self.path / "table.txt"
        self.report = self.path / "report.html"
        self.explanation = self.path / "explanation"

    def control(self, name: str) -> "RunFolder":
        """The folder of a control."""
        return RunFolder(self.path / "controls" / name)

    def prepare(self) -> None:
        """Makes the folder, and makes sure that files can be written to it.

        Raises:
            OSError: when they cannot.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as probe:
                probe.write(b"probe")
        except OSError as error:
            raise OSError(f"the run folder {self.path} cannot be written to ({error.strerror}): give another with --run_dir") from error

    def set_aside(self) -> Path | None:
        """Moves what an earlier run left here to a numbered folder beside it, so that nothing is overwritten.

        Returns:
            Where it went; None when there was nothing.
        """
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside

    def metrics(self) -> dict[str, float]:
        """The results so far."""
        if not self.metrics_json.exists():
            return {}
        results: dict[str, float] = json.loads(self.metrics_json.read_text())
        return results

    def update_metrics(self, results: Mapping[str, float]) -> None:
        """Adds results to `metrics.json`, which is replaced whole or not at all."""
        merged = self.metrics() | {key: float(value) for key, value in results.items()}
        part = self.metrics_json.with_suffix(".json.part")
        part.write_text(json.dumps(merged, indent=2) + "\n")
        os.replace(part, self.metrics_json)
