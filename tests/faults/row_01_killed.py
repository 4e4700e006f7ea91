"""A run is killed in the middle of an epoch and resumed; nothing in it is random but the order of the rows."""

import signal
from pathlib import Path

from tests.faults.processes import run
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.trace import same

FAULT = "kill -9 in the middle of an epoch, resumed, no randomness but the order"
EXPECTED = "later losses bitwise equal, no sample twice or lost"

ENCODER = "--model.init_args.model.init_args.encoder.init_args.self_block.init_args.dropout"
PLAIN = (
    f"{ENCODER}=0.0",
    "--model.init_args.model.init_args.modality_dropout.init_args.probability=0.0",
    "--data.init_args.datasets.images.augment=[]",
)


def ours(folder: Path) -> str:
    """By its command line: checkpoints every 3 steps, killed in step 5 of epochs of 7."""
    whole, killed = folder / "whole", folder / "killed"
    for words, code in (
        (mixture(whole, *PLAIN), 0),
        (mixture(killed, *PLAIN, KillAt=5), -signal.SIGKILL),
        (mixture(killed, *PLAIN, *resume(killed)), 0),
    ):
        done = run("train.py", *words)
        if done.returncode != code:
            raise Fell(f"exit code {done.returncode}: {done.stderr[-300:]}")
    return same(whole, killed, 3)


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
    """Checkpoints every 4 steps, killed in step 6 of epochs of 10."""
    whole, killed = folder / "whole", folder / "killed"
    with Warm(subject) as train:
        for words, code in (((whole,), 0), ((killed, "--kill_at", 6), -signal.SIGKILL), ((killed, "--resume"), 0)):
            done = train(*words)
            if done.returncode != code:
                raise Fell(f"exit code {done.returncode}: {done.said}")
    try:
        return same(whole, killed, 4)
    except Fell as fell:
        raise Fell(f"{fell}; {'it warns of that' if 'not resumable' in done.text else 'nothing is said'}") from fell
