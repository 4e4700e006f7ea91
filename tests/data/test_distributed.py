"""Two processes: together they see what one sees, each row once, and learn the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # processes of their own
ROOT = Path(__file__).parent.parent.parent
STEPS = 11


def train(folder: Path, devices: int, *options: str) -> list[dict]:
    """Trains on the toy mixture with plain rows, and gives what each process saw and learned."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    script = Path(__file__).parent.parent / "train_distributed.py"
    done = subprocess.run(
        [sys.executable, script, str(folder), str(devices), str(STEPS), *options],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(devices)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[dict, list[dict]]:
    """What one process saw, and what each of two saw."""
    (one,) = train(tmp_path_factory.mktemp("one"), 1)
    return one, train(tmp_path_factory.mktemp("two"), 2)


def test_ranks_see_disjoint_rows_that_are_together_those_of_one_process_at_each_step(runs):
    one, two = runs
    assert len(one["rows"]) == STEPS
    for whole, first, second in zip(one["rows"], two[0]["rows"], two[1]["rows"], strict=True):
        assert not set(map(tuple, first)) & set(map(tuple, second))
        assert first + second == whole


def test_losses_are_those_of_one_process_to_rounding(runs):
    one, two = runs
    for whole, first, second in zip(one["losses"], two[0]["losses"], two[1]["losses"], strict=True):
        assert (first + second) / 2 == pytest.approx(whole, rel=1e-4)


def test_both_ranks_end_with_the_same_weights(runs):
    _, two = runs
    assert two[0]["weights"] == two[1]["weights"]


def test_validation_counts_each_row_once_however_many_ranks_there_are(runs):
    one, two = runs
    assert two[0]["accuracy"] == pytest.approx(one["accuracy"], abs=1e-6)


@pytest.mark.slow
def test_two_ranks_that_are_resumed_end_where_they_would_have(runs, tmp_path):
    _, two = runs
    train(tmp_path, 2, "5")
    resumed = train(tmp_path, 2, str(STEPS), "resume")
    for rank in range(2):
        assert resumed[rank]["losses"] == two[rank]["losses"][5:]
        assert resumed[rank]["weights"] == two[rank]["weights"]
