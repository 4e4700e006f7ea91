"""A data worker is killed, as the system does with a process when memory runs out."""

import json
from pathlib import Path

from tests.faults.processes import fit_words
from tests.faults.scoreboard import Fell
from tests.faults.subjects.faulty_runs import HANGS, aftermath, worker_lost

FAULT = "kill -9 of a data worker"
EXPECTED = "an error within 10 s that names worker and samples; no process, shared memory or temporary file is left"

WITHIN = 10.0  # seconds


def ours(folder: Path) -> str:
    """One of two workers: in the middle of a batch that is waited for, and in the middle of a step."""
    at = "tests.faults.subjects.faulty_ours"
    in_batch = json.dumps([{"class_path": f"{at}.StrikeWorker", "init_args": {"how": "killed", "folder": str(folder / "batch")}}])
    in_step = json.dumps([{"class_path": f"{at}.KillWorker", "init_args": {"step": 5, "folder": str(folder / "step")}}])
    for name, options in {
        "batch": (f"--data.init_args.datasets.images.augment={in_batch}",),
        "step": ("--trainer.callbacks", in_step),
    }.items():
        found = aftermath(folder / name, *fit_words(folder / name / "run", *options, "--data.init_args.num_workers=2"), within=HANGS)
        said = worker_lost(found, WITHIN, "error: DataLoader worker (pid", ", with rows ")
        if found.returncode != 2:
            raise Fell(f"exit code {found.returncode}: {said}")
    return said


def lightning(folder: Path) -> str:
    """One of two workers, in the middle of a batch."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """One of two workers, in the middle of a batch."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """One of two workers, in the middle of a batch."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Trains with two workers, one of which is killed; samples are named by their numbers, if at all."""
    found = aftermath(folder, "-m", f"tests.faults.subjects.faulty_{subject}", "killed", str(folder), within=HANGS)
    return worker_lost(found, WITHIN, "DataLoader worker (pid", "row")
