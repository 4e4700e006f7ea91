"""The soak: one training that is killed at random moments again and again, and one that is left alone. Both must end with the same weights.

    python -m tests.faults.soak --steps 20000 --kills 50 --folder runs/soak [--json FILE]

One kill in five comes in the first seconds of a process, while it imports and restores; the others at a time drawn at random since the process made
its first step, so they hit steps, saves and validations as they come. Memory and open files of the training are looked at all along.
"""

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from perceiver import checkpoints
from tests.faults.processes import fit_words, losses, start

STARTED_WITHIN = 600.0  # seconds until the first step of a process
MEMORY, FILES = 64_000_000, 4  # bytes and open files that a process may gain between its first and its last quarter


def words(folder: Path, steps: int) -> tuple[str, ...]:
    """A training on the toy mixture with dropout, modality dropout and augmentation, two data workers, and a checkpoint every 50 steps."""
    watch = f'[{{"class_path": "tests.faults.watch.WatchProcess", "init_args": {{"file": "{folder}.csv"}}}}]'
    return fit_words(
        folder,
        f"--trainer.max_steps={steps}",
        "--save_every=50",
        "--trainer.log_every_n_steps=10",
        "--data.init_args.steps_per_epoch=400",
        "--data.init_args.num_workers=2",
        "--trainer.callbacks",
        watch,
    )


def resumed(folder: Path) -> tuple[str, ...]:
    """The words with which a run goes on, if it has come to a checkpoint."""
    there = folder / "checkpoints"
    return ("--ckpt_path", str(folder)) if there.is_dir() and any(there.glob("*.ckpt*")) else ()


def to_the_end(folder: Path, steps: int) -> float:
    """Trains to the end, from where the run stands; the seconds it took."""
    begun = time.monotonic()
    process = start(*words(folder, steps), *resumed(folder), stdout=subprocess.DEVNULL)
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the run in {folder} ended with {process.returncode}: {errors[-2000:]}")
    return time.monotonic() - begun


def killed(folder: Path, steps: int, after: float, starting: bool) -> bool:
    """Starts a run, or goes on with it, and kills it after some seconds; whether it was still running then.

    Args:
        folder: of the run.
        steps: that it has in all.
        after: seconds since its first step.
        starting: since the process was started, instead.
    """
    logged = changed(folder)
    process = start(*words(folder, steps), *resumed(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + STARTED_WITHIN
    while not starting and process.poll() is None and changed(folder) == logged:
        if time.monotonic() > end:
            process.kill()
            raise SystemExit(f"the run in {folder} made no step within {STARTED_WITHIN:.0f} s")
        time.sleep(0.05)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    if process.returncode != 0:
        raise SystemExit(f"the run in {folder} ended with {process.returncode} by itself: go on with it by hand to see why")
    return False


def changed(folder: Path) -> int:
    """When a run wrote its log for the last time; 0 before the first."""
    log = folder / "metrics.csv"
    return log.stat().st_mtime_ns if log.exists() else 0


def gained(file: Path) -> dict[str, float]:
    """How much more memory (bytes) and how many more open files the longest-lived process had in its last quarter than in its first; medians."""
    with open(file, newline="") as opened:
        lines = list(csv.DictReader(opened))
    longest = max({line["process"] for line in lines}, key=lambda process: sum(line["process"] == process for line in lines))
    mine = [line for line in lines if line["process"] == longest]
    quarter = max(1, len(mine) // 4)
    found = {}
    for name in ("bytes", "files"):
        values = [float(line[name]) for line in mine]
        found[name] = sorted(values[-quarter:])[quarter // 2] - sorted(values[:quarter])[quarter // 2]
    return found


def main() -> int:
    """Runs both, and compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds after which a process is killed at the latest")
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    draw, begun = random.Random(asked.seed), time.monotonic()
    deaths = []
    while len(deaths) < asked.kills:
        starting = len(deaths) % 5 == 4
        after = draw.uniform(0, asked.longest)
        if not killed(folder / "soaked", asked.steps, after, starting):
            break
        deaths.append(last_step(folder / "soaked"))
        print(f"kill {len(deaths)}, {after:.1f} s after {'its start' if starting else 'its first step'}, at step {deaths[-1]}", flush=True)
    to_the_end(folder / "soaked", asked.steps)
    alone = to_the_end(folder / "alone", asked.steps)
    ours, theirs = (checkpoints.read(folder / name / "checkpoints" / "last.ckpt") for name in ("soaked", "alone"))
    differing = [name for name, value in theirs["state_dict"].items() if not torch.equal(value, ours["state_dict"][name])]
    logged = [losses(folder / name) for name in ("soaked", "alone")]
    found = {
        "steps": asked.steps,
        "kills": len(deaths),
        "different weights": len(differing),
        "logged losses": len(logged[1]),
        "different, missing or repeated losses": sum((Counter(logged[0]) - Counter(logged[1]) | Counter(logged[1]) - Counter(logged[0])).values()),
        "seconds alone": round(alone, 1),
        "seconds in all": round(time.monotonic() - begun, 1),
        "gained by the process that was left alone": gained(folder / "alone.csv"),
    }
    print(json.dumps(found, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    more = found["gained by the process that was left alone"]
    flat = more["bytes"] <= MEMORY and more["files"] <= FILES
    return int(bool(differing) or found["different, missing or repeated losses"] > 0 or not flat or len(deaths) < asked.kills)


def last_step(folder: Path) -> int:
    """The last step that a run has logged; -1 before its first."""
    try:
        return losses(folder)[-1][0]
    except (OSError, IndexError, ValueError, KeyError):
        return -1


if __name__ == "__main__":
    sys.exit(main())
