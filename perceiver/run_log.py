"""The log of a run: `metrics.csv`, in which a run that is resumed goes on where its checkpoint stood."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from perceiver.run_folder import RunFolder

Line = dict[str, str]


class LastingWriter(ExperimentWriter):
    """Lightning's writer, but one that goes on with the file that it finds, and never leaves half a file behind."""

    @property
    def file(self) -> Path:
        """Where the lines go."""
        return Path(self.metrics_file_path)

    def lines(self) -> list[Line]:
        """What the file holds."""
        with open(self.file, newline="") as file:
            return list(csv.DictReader(file))

    def replace(self, lines: Iterable[Line], columns: Sequence[str]) -> None:
        """Puts another file in the place of this one, at once."""
        part = self.file.with_suffix(".csv.part")
        with open(part, "w", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(lines)
        os.replace(part, self.file)

    def _check_log_dir_exists(self) -> None:
        """In place of Lightning's, which deletes the file: drops a last line that a kill has cut short, and takes over the columns."""
        if not self.file.exists():
            return
        whole = (text := self.file.read_bytes()).rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(self.file, whole)
        if not whole:
            self.file.unlink()
            return
        with open(self.file, newline="") as file:
            self.metrics_keys = next(csv.reader(file))

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.replace(self.lines(), fieldnames)


class RunLogger(CSVLogger):
    """Writes `metrics.csv` right into a run folder, behind what an earlier part of the same run wrote there.

    Each line is on disk before the next step starts. What a killed run logged beyond its last checkpoint is taken out when the
    resumed run logs it again, so that no step stands twice.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.path, name="", version="", flush_logs_every_n_steps=1)
        self._started = False
        self._written: tuple[int | None, set[str]] = (None, set())  # the last step, and what was logged of it

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = LastingWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Adds a line; before the first one of a resumed run, takes out what it is about to log again."""
        writer = self.experiment
        if not self._started and step is not None and writer.file.exists():
            lines = writer.lines()
            kept = [line for line in lines if int(line["step"]) < step or int(line["step"]) == step and not any(line.get(key) for key in metrics)]
            writer.replace(kept, writer.metrics_keys)
        self._started = True
        logged = self._written[1] if self._written[0] == step else set()
        new = {key: value for key, value in metrics.items() if key not in logged}
        if step is not None:
            self._written = (step, logged | set(metrics))
        if new.keys() - {"epoch"} or not logged:
            super().log_metrics(new, step)
