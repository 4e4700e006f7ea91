"""The log of a run: what is resumed goes on where its checkpoint stood, and no step stands twice."""

import csv
from pathlib import Path

import pytest

from perceiver.run_folder import RunFolder
from perceiver.run_log import RunLogger


def logged(folder: Path) -> list[tuple[int, str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [(int(line["step"]), line["train/loss"], line["val/loss"]) for line in csv.DictReader(file)]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a run that logged five steps, and validated after the third."""
    log = RunLogger(RunFolder(tmp_path))
    for step in range(5):
        log.log_metrics({"train/loss": step / 7}, step)
        if step == 2:
            log.log_metrics({"val/loss": 0.5}, step)
    return tmp_path


def test_each_line_is_there_before_the_next_step(killed):
    assert [step for step, _, _ in logged(killed)] == [0, 1, 2, 2, 3, 4]


def test_what_was_logged_beyond_the_checkpoint_is_replaced(killed):
    before = logged(killed)
    RunLogger(RunFolder(killed)).log_metrics({"train/loss": 11.0}, 3)
    assert logged(killed) == [*before[:4], (3, "11.0", "")]


def test_a_validation_that_comes_again_leaves_the_training_of_its_step(killed):
    before = logged(killed)
    RunLogger(RunFolder(killed)).log_metrics({"val/loss": 0.25}, 2)
    assert logged(killed) == [*before[:3], (2, "", "0.25")]


def test_a_last_line_that_was_cut_short_is_dropped_wherever_it_was_cut(killed):
    text = (killed / "metrics.csv").read_bytes()
    before = logged(killed)
    last = text[: text.rstrip().rfind(b"\n") + 1]
    for length in range(1, len(text.rstrip()) - len(last) + 1):
        (killed / "metrics.csv").write_bytes(text[: len(last) + length])
        RunLogger(RunFolder(killed)).log_metrics({"train/loss": 11.0}, 5)
        assert logged(killed) == [*before[:5], (5, "11.0", "")]


def test_a_kill_while_the_file_is_rewritten_leaves_it_as_it_was(killed, monkeypatch):
    def kill(*args):
        raise KeyboardInterrupt

    before = (killed / "metrics.csv").read_bytes()
    monkeypatch.setattr("perceiver.run_log.os.replace", kill)
    with pytest.raises(KeyboardInterrupt):
        RunLogger(RunFolder(killed)).log_metrics({"a new column": 1.0}, 5)
    assert (killed / "metrics.csv").read_bytes() == before
