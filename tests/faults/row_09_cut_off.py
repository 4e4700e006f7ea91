"""A file of a checkpoint is cut off, and there is no other checkpoint."""

import shutil
import signal
from pathlib import Path

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.disk import cut
from tests.faults.subjects.trace import steps

FAULT = "a checkpoint file cut off, and no other one there"
EXPECTED = "refused with an error"


def ours(folder: Path) -> str:
    """Each file of a checkpoint, and a file that Lightning wrote: one line, which names the file."""
    whole, told = folder / "whole", ""
    with Warm("ours") as train, Warm("lightning") as other:
        if (done := train(*mixture(whole))).returncode or (done := other(folder / "lightning")).returncode:
            raise Fell(done.said)
        for name in ("weights.safetensors", "state.safetensors", "state.json", "MANIFEST.json", "lightning.ckpt"):
            hurt = folder / name
            last = hurt / "checkpoints" / "last.ckpt"
            if name == "lightning.ckpt":
                last.parent.mkdir(parents=True)
                shutil.copy(folder / "lightning" / "checkpoints" / "last.ckpt", last)
            else:
                shutil.copytree(whole / "checkpoints" / "last.ckpt", last)
            file = last if last.is_file() else last / name
            cut(file)
            refused = train(*mixture(hurt, *resume(hurt)))
            if refused.returncode != 2 or not refused.said.startswith(f"error: {file} ") or "Traceback" in refused.text or steps(hurt):
                raise Fell(f"{name}: exit code {refused.returncode}: {refused.said}")
            told = told or refused.said
    return told


def lightning(folder: Path) -> str:
    """Both files that there are."""
    return peer("lightning", folder, "last.ckpt")


def transformers(folder: Path) -> str:
    """The weights."""
    return peer("transformers", folder, "checkpoint-4/model.safetensors")


def accelerate(folder: Path) -> str:
    """The weights."""
    return peer("accelerate", folder, "last/model.safetensors")


def peer(subject: str, folder: Path, file: str) -> str:
    """A checkpoint after 4 steps; killed in step 6."""
    hurt = folder / "hurt"
    with Warm(subject) as train:
        done = train(hurt, "--kill_at", 6)
        if done.returncode != -signal.SIGKILL:
            raise Fell(done.said)
        cut(hurt / "checkpoints" / file)
        made = len(steps(hurt))
        done = train(hurt, "--resume")
    if not done.returncode or len(steps(hurt)) != made:
        raise Fell(f"exit code {done.returncode}, {len(steps(hurt)) - made} steps: {done.said}")
    return done.said
