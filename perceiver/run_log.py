"""The log of a run: `metrics.csv`, in which a run that is resumed goes on where its checkpoint stood."""

import csv
import os
import warnings
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from perceiver.run_folder import RunFolder


class RunLogger(CSVLogger):
    """Writes `metrics.csv` right into a run folder, behind what an earlier part of the same run wrote there.

    Each line is on disk before the next step starts. What a killed run logged beyond its last checkpoint is taken out when the
    resumed run logs it again, so that no step stands twice.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.path, name="", version="", flush_logs_every_n_steps=1)
        self._file = folder.path / ExperimentWriter.NAME_METRICS_FILE
        # Lightning's writer deletes the file that it finds, with a warning; it gets it back with its first line.
        # A kill may have cut its last line short.
        text = self._file.read_text() if self._file.exists() else ""
        self._earlier = text[: text.rfind("\n") + 1]

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the file."""
        if self._experiment is None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Experiment logs directory")
                self._experiment = ExperimentWriter(self.log_dir)
            if self._earlier:
                self._file.write_text(self._earlier)
                self._experiment.metrics_keys = self._earlier.splitlines()[0].split(",")
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Adds a line; before the first one of a resumed run, takes out what it is about to log again."""
        writer = self.experiment
        if self._earlier and step is not None:
            self._earlier = ""
            with open(self._file, newline="") as file:
                lines = list(csv.DictReader(file))
            kept = [line for line in lines if int(line["step"]) < step or int(line["step"]) == step and not any(line.get(key) for key in metrics)]
            part = self._file.with_suffix(".csv.part")
            with open(part, "w", newline="") as file:
                table = csv.DictWriter(file, fieldnames=writer.metrics_keys)
                table.writeheader()
                table.writerows(kept)
            os.replace(part, self._file)
        super().log_metrics(metrics, step)
