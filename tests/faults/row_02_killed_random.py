"""A run with dropout and augmentation is killed and resumed, without data workers and with two."""

import signal
from pathlib import Path

from tests.faults.processes import run
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.trace import same

FAULT = "kill -9 in the middle of an epoch, resumed, with dropout and augmentation, 0 and 2 data workers"
EXPECTED = "later losses bitwise equal, no sample twice or lost"


def ours(folder: Path) -> str:
    """By its command line, killed twice: in its second part, and after it, with two data workers; the run left alone has none."""
    whole, killed = folder / "whole", folder / "killed"
    two = "--data.init_args.num_workers=2"
    for words, code in (
        (mixture(whole), 0),
        (mixture(killed, KillAt=5), -signal.SIGKILL),
        (mixture(killed, two, *resume(killed), KillAt=11), -signal.SIGKILL),
        (mixture(killed, two, *resume(killed)), 0),
    ):
        done = run("train.py", *words)
        if done.returncode != code:
            raise Fell(f"exit code {done.returncode}: {done.stderr[-300:]}")
    return same(whole, killed, 3, 9) + ", killed twice, without workers and with two"


def lightning(folder: Path) -> str:
    """With `ckpt_path="last"`, a shuffled loader, and a seed."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """With `resume_from_checkpoint=True`."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """With `load_state` and `skip_first_batches`, a shuffled loader, and a seed."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Checkpoints every 4 steps, killed in step 6 of epochs of 10, with as many data workers before and after."""
    exact, others = [], []
    with Warm(subject) as train:
        for random in (("--dropout",), ("--dropout", "--noise")):
            for workers in (0, 2):
                case = f"{' and '.join(random).replace('--', '')} with {workers} workers"
                whole, killed = folder / f"whole {case}", folder / f"killed {case}"
                for words, code in (((whole,), 0), ((killed, "--kill_at", 6), -signal.SIGKILL), ((killed, "--resume"), 0)):
                    done = train(*words, *random, "--workers", workers)
                    if done.returncode != code:
                        raise Fell(f"{case}: exit code {done.returncode}: {done.said}")
                try:
                    same(whole, killed, 4)
                    exact.append(case)
                except Fell as error:
                    others.append(f"{case}: {error}")
    if others:
        raise Fell((f"exact are {', '.join(exact)}; not " if exact else "") + others[0] + f"; {len(others)} of 4 cases are not exact")
    return f"exact are {', '.join(exact)}"
