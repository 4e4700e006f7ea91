"""A run is resumed with another batch size, or by another number of processes."""

import signal
from pathlib import Path

from tests.faults.processes import run
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.trace import steps

FAULT = "resumed with another batch size, or another number of ranks"
EXPECTED = "the same order of samples over all, or a refusal that says why"


def ours(folder: Path) -> str:
    """Refused, with what was and what is; no step is made."""
    killed = folder / "killed"
    with Warm("ours") as train:
        done = train(*mixture(killed, KillAt=5))
        if done.returncode != -signal.SIGKILL:
            raise Fell(done.said)
        made = len(steps(killed))
        batch = train(*mixture(killed, *resume(killed), "--data.init_args.batch_size=9"))
        if batch.returncode != 2 or "batch_size was 6 and is 9" not in batch.said or len(steps(killed)) != made:
            raise Fell(f"another batch size: exit code {batch.returncode}: {batch.said}")
    two = ("--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true")
    ranks = run("train.py", *mixture(killed, *resume(killed), *two))
    told = next((line for line in ranks.stderr.splitlines() if line.startswith("error: ")), ranks.stderr[-200:])
    if ranks.returncode != 2 or "written by 1 rank, and this run has 2" not in told or len(steps(killed)) != made:
        raise Fell(f"another number of ranks: exit code {ranks.returncode}: {told}")
    return f"{batch.said}; {told}"


def lightning(folder: Path) -> str:
    """Another batch size."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """Another batch size."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """Another batch size."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Rows as they stand, 4 in a step; a checkpoint after 4 steps, killed in step 6; resumed with 8 in a step. Row 16 is the next."""
    killed = folder / "killed"
    with Warm(subject) as train:
        done = train(killed, "--in_order", "--kill_at", 6)
        if done.returncode != -signal.SIGKILL:
            raise Fell(done.said)
        made = len(steps(killed))
        done = train(killed, "--in_order", "--resume", "--batch_size", 8)
    if done.returncode and len(steps(killed)) == made:
        return done.said
    came = " ".join(step.samples for step in steps(killed)[made:]).split()
    if [int(sample) for sample in came[:24]] != list(range(16, 40)):
        warned = "it warns that arguments do not match, and goes on" if "do not match" in done.text else "nothing is said"
        raise Fell(f"{warned}: after samples 0 to 15 came {', '.join(came[:8])}, and so on")
    return "the same order goes on"
