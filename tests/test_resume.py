"""Resume: a run that is killed again and again is, step by step and bit by bit, the run that was left alone."""

import csv
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from perceiver import checkpoints
from perceiver.resume import RandomState, RunCheckpoint, random_state, set_random_state

ROOT = Path(__file__).parent.parent
STEPS = 17


def fit(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Trains on the toy mixture in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", "fit", "-c", "tests/toy_mixture.yaml", "--run_dir", str(folder), *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def killed_at(step: int) -> tuple[str, str]:
    return "--trainer.callbacks", f'[{{"class_path": "toy_datasets.KillAt", "init_args": {{"step": {step}}}}}]'


def resume(folder: Path) -> tuple[str, str]:
    return "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")


def logged(folder: Path) -> list[dict[str, str]]:
    """All lines of the log."""
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> list[tuple[int, str]]:
    """Step and loss of each training line, digit by digit."""
    return [(int(line["step"]), line["train/loss"]) for line in logged(folder) if line["train/loss"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = fit(folder)
    assert done.returncode == 0, done.stderr
    return folder


# Kills in the middle of an epoch of 7 steps, in the step after an epoch's end, and in the last but one; checkpoints every 3 steps.
@pytest.mark.slow
@pytest.mark.parametrize("workers", [(0, 0, 2, 0), (2, 0, 2, 2)], ids=["none, none, two, no workers", "two, none, two, two workers"])
def test_a_run_that_is_killed_three_times_and_moved_is_the_run_that_was_left_alone(whole, tmp_path, workers):
    folder = tmp_path / "run"
    for part, (kill, number) in enumerate(zip((5, 8, 15), workers[:3], strict=True)):
        options = resume(folder) if part else ()
        dead = fit(folder, *killed_at(kill), *options, f"--data.init_args.num_workers={number}")
        assert dead.returncode == -signal.SIGKILL, dead.stderr
        assert losses(folder)[-1][0] == kill - 1
    folder = folder.rename(tmp_path / "moved")
    done = fit(folder, *resume(folder), f"--data.init_args.num_workers={workers[3]}")
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in losses(folder)] == list(range(STEPS))
    assert losses(folder) == losses(whole)
    assert logged(folder)[-1]["test/loss"] == logged(whole)[-1]["test/loss"]
    ours, theirs = (checkpoints.read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (folder, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_another_mixture_is_not_resumed_but_refused_with_what_changed(whole, tmp_path):
    refused = fit(tmp_path / "run", *resume(whole), "--data.init_args.batch_size=9")
    assert refused.returncode == 2
    assert "batch_size was 6 and is 9" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_schedule_that_asks_how_many_steps_the_epochs_have_is_resumed_exactly(tmp_path):
    epochs = ("--trainer.max_steps=-1", "--trainer.max_epochs=2")
    assert fit(tmp_path / "whole", *epochs).returncode == 0
    assert fit(tmp_path / "run", *epochs, *killed_at(9)).returncode == -signal.SIGKILL
    assert fit(tmp_path / "run", *epochs, *resume(tmp_path / "run")).returncode == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole") and len(losses(tmp_path / "run")) == 14


def test_another_number_of_ranks_is_refused():
    state = RandomState()
    state.load_state_dict({"ranks": [random_state(), random_state()]})
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="written by 2 ranks, and this run has 1"):
        state.on_train_start(trainer, L.LightningModule())


def test_a_run_that_was_moved_knows_its_best_checkpoint_and_a_run_beside_it_has_none(tmp_path):
    before, now, other = (tmp_path / name for name in ("before", "now", "other"))
    known = RunCheckpoint(before, "best", monitor="val/loss")
    known.best_model_score, known.best_model_path = torch.tensor(0.5), str(before / "best.ckpt")
    known.best_k_models, known.kth_best_model_path = {known.best_model_path: known.best_model_score}, known.best_model_path
    (before / "best.ckpt").mkdir(parents=True)
    state = known.state_dict()
    before.rename(now)
    found = RunCheckpoint(now, "best", monitor="val/loss")
    found.load_state_dict(state)
    assert found.best_model_score == 0.5 and found.best_model_path == found.kth_best_model_path == str(now / "best.ckpt")
    assert list(found.best_k_models) == [found.best_model_path]
    elsewhere = RunCheckpoint(other, "best", monitor="val/loss")
    with pytest.warns(UserWarning, match="The dirpath has changed"):
        elsewhere.load_state_dict(state)
    assert elsewhere.best_model_score is None and elsewhere.best_model_path == str(before / "best.ckpt")


def test_random_numbers_go_on_where_they_stood():
    state = random_state()
    drawn = torch.rand(3), np.random.rand(5), random.random(), np.random.randn(), random.gauss(0, 1)
    set_random_state(state)
    again = torch.rand(3), np.random.rand(5), random.random(), np.random.randn(), random.gauss(0, 1)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_the_random_state_in_a_checkpoint_is_no_pickle(tmp_path):
    torch.save(RandomState().state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(loaded["ranks"][0]["torch"], random_state()["torch"])
