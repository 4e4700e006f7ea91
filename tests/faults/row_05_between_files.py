"""A run is killed between two files of one checkpoint, or the files of two checkpoints are mixed."""

import shutil
import signal
from pathlib import Path

from tests.faults.row_04_newest_incomplete import warned
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.trace import same, starts

FAULT = "killed between the files of one checkpoint"
EXPECTED = "all of it is resumed, or nothing of it"
NOT_APPLICABLE = {"lightning": "a checkpoint is one file"}


def ours(folder: Path) -> str:
    """Killed behind the weights and before the optimizer's state; then the older weights are put into the newest checkpoint, or a file is missing."""
    whole, killed, said = folder / "whole", folder / "killed", ""
    with Warm("ours") as train:
        if (done := train(*mixture(whole))).returncode:
            raise Fell(done.said)
        done = train(*mixture(killed, StrikeSave={"step": 9, "at": "state.safetensors"}))
        part = killed / "checkpoints" / "last.ckpt.part"
        if done.returncode != -signal.SIGKILL or [one.name for one in part.iterdir()] != ["weights.safetensors"]:
            raise Fell(f"it was not killed between two files: {done.said}")
        if (done := train(*mixture(killed, *resume(killed)))).returncode:
            raise Fell(done.said)
        same(whole, killed, 7)
        for case in ("mixed", "missing"):
            hurt = folder / case
            shutil.copytree(whole, hurt)
            last = hurt / "checkpoints" / "last.ckpt"
            if case == "mixed":
                shutil.copy(last.with_name("last.ckpt.previous") / "weights.safetensors", last)
            else:
                (last / "state.safetensors").unlink()
            done = train(*mixture(hurt, *resume(hurt)))
            said = warned(done, ", step 15, ")
            if done.returncode or not said:
                raise Fell(f"{case}: {done.said}")
            same(whole, hurt, 15)
    return f"went on from the one before, bit by bit; and with a file missing: {said}"


def transformers(folder: Path) -> str:
    """Killed before `optimizer.pt` of its second checkpoint."""
    return peer("transformers", folder, "optimizer.pt")


def accelerate(folder: Path) -> str:
    """Killed before `optimizer.bin`, in the one folder that it was told to save into."""
    return peer("accelerate", folder, "optimizer.bin")


def peer(subject: str, folder: Path, file: str) -> str:
    """Checkpoints at the ends of epochs, of 10 steps each; killed in the second save."""
    options = ("--in_order", "--save_every", 10, "--steps", 24)
    whole, killed = folder / "whole", folder / "killed"
    with Warm(subject) as train:
        for words, code in (((whole,), 0), ((killed, "--strike", file), -signal.SIGKILL)):
            if (done := train(*words, *options)).returncode != code:
                raise Fell(f"exit code {done.returncode}: {done.said}")
        done = train(killed, "--resume", *options)
    if done.returncode:
        return f"nothing is: {done.said}"
    begun = 20 if 20 in starts(killed) else 10
    try:
        return same(whole, killed, begun)
    except Fell as fell:
        raise Fell(f"it went on from a mixture of both, as of step {begun}: {fell}") from fell
