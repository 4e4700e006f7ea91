"""Processes of the fault suite: runs of this library that can be killed, signalled, starved and looked at afterwards."""

import csv
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TIMEOUT = 180.0  # seconds, after which a run counts as hung


def environment() -> dict[str, str]:
    """That of a run: one thread, and the toy datasets of the tests can be imported."""
    return os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def start(*words: str, **options) -> subprocess.Popen[str]:
    """Starts Python with some words, in the repository."""
    given = dict(cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) | options
    return subprocess.Popen([sys.executable, *words], **given)


def run(*words: str, timeout: float = TIMEOUT, **options) -> subprocess.CompletedProcess[str]:
    """Runs Python with some words, to its end."""
    given = dict(cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout) | options
    return subprocess.run([sys.executable, *words], **given)


def fit_words(folder: Path, *options: str) -> tuple[str, ...]:
    """The words of a training on the toy mixture, 17 steps, epochs of 7, a checkpoint every 3 steps."""
    return ("train.py", "fit", "-c", "tests/toy_mixture.yaml", "--run_dir", str(folder), *options)


def fit(folder: Path, *options: str, **more) -> subprocess.CompletedProcess[str]:
    """Trains on the toy mixture, to the end."""
    return run(*fit_words(folder, *options), **more)


def last(folder: Path) -> Path:
    """The last checkpoint of a run."""
    return folder / "checkpoints" / "last.ckpt"


def losses(folder: Path) -> list[tuple[int, str]]:
    """Step and loss of each training line of a run of this library, digit by digit."""
    with open(folder / "metrics.csv", newline="") as file:
        return [(int(line["step"]), line["train/loss"]) for line in csv.DictReader(file) if line.get("train/loss")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a process said, which is its error."""
    lines = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else ""
