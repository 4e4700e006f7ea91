"""Checkpoints are to go where nothing can be written."""

import json
from pathlib import Path

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture
from tests.faults.subjects.disk import read_only
from tests.faults.subjects.trace import steps

FAULT = "the checkpoint folder is not writable"
EXPECTED = "an error before the first step"


def ours(folder: Path) -> str:
    """The whole run folder; then, in a folder that can be written to, the checkpoints alone."""
    run = folder / "run"
    with read_only(folder / "locked") as locked, Warm("ours") as train:
        words = list(mixture(run))
        refused = train(*(word if word != str(run) else str(locked) for word in words))  # its steps are still noted elsewhere
        check(refused.returncode == 2 and str(locked) in refused.said, run, refused.said)
        callbacks = json.loads(words.pop())
        given = {"dirpath": str(locked), "filename": "last", "every_n_train_steps": 3}
        callbacks.append({"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": given})
        refused = train(*words, json.dumps(callbacks))
        check(refused.returncode == 2 and str(locked) in refused.said, run, refused.said)
    return refused.said


def check(refused: bool, run: Path, said: str) -> None:
    """Makes sure that a run was refused, and made no step."""
    if not refused or steps(run):
        raise Fell(f"{len(steps(run))} steps were trained: {said}")


def lightning(folder: Path) -> str:
    """Its ModelCheckpoint."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """Its output folder."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """The folder that `save_state` is given."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Checkpoints alone are to go there; the first after 4 steps."""
    run = folder / "run"
    with read_only(folder / "locked") as locked, Warm(subject) as train:
        done = train(run, "--checkpoints", locked)
    check(bool(done.returncode), run, done.said)
    return done.said
