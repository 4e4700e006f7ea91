"""The newest checkpoint of a run is cut off, or was never finished; an older one is whole."""

import shutil
import signal
from pathlib import Path

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Done, Warm, mixture
from tests.faults.subjects.disk import cut
from tests.faults.subjects.trace import same

FAULT = "the newest checkpoint is incomplete or cut off"
EXPECTED = "the newest complete one is used, and it is said which"


def ours(folder: Path) -> str:
    """`last` is of step 17, the one before it of 15, the best of 14. It is asked for by name, and by the folder of the run."""
    whole, said = folder / "whole", ""
    with Warm("ours") as train:
        if (done := train(*mixture(whole))).returncode:
            raise Fell(done.said)
        for case, step, by_name in (("cut off", 15, True), ("without its manifest", 15, False), ("both cut off", 14, True)):
            hurt = folder / case
            shutil.copytree(whole, hurt)
            last = hurt / "checkpoints" / "last.ckpt"
            if case == "without its manifest":
                (last / "MANIFEST.json").unlink()
            else:
                cut(last / "weights.safetensors")
            if case == "both cut off":
                cut(last.with_name("last.ckpt.previous") / "state.json")
            done = train(*mixture(hurt, "--ckpt_path", str(last if by_name else hurt)))
            said = warned(done, f", step {step}, ")
            if done.returncode or not said or str(last) not in said:
                raise Fell(f"{case}: {said or done.said}")
            same(whole, hurt, step)
    return said


def warned(done: Done, what: str) -> str:
    """The line in which a run says what it resumes from."""
    return next((line for line in done.text.splitlines() if "resuming from" in line and what in line), "")


def lightning(folder: Path) -> str:
    """`last.ckpt` is cut off; the same step lies whole beside it. By default it keeps no older one."""
    return peer("lightning", folder, "last.ckpt")


def transformers(folder: Path) -> str:
    """The weights of the newest folder are cut off."""
    return peer("transformers", folder, "checkpoint-20/model.safetensors")


def accelerate(folder: Path) -> str:
    """The weights of the newest folder are cut off; it has a folder for each save here."""
    return peer("accelerate", folder, "step_20/model.safetensors")


def peer(subject: str, folder: Path, file: str) -> str:
    """Checkpoints at the ends of epochs, of 10 steps each; killed in the third."""
    options = ("--in_order", "--keep", "--save_every", 10, "--steps", 24)
    whole, hurt = folder / "whole", folder / "hurt"
    with Warm(subject) as train:
        for words, code in (((whole,), 0), ((hurt, "--kill_at", 22), -signal.SIGKILL)):
            if (done := train(*words, *options)).returncode != code:
                raise Fell(done.said)
        cut(hurt / "checkpoints" / file)
        done = train(hurt, "--resume", *options)
    if done.returncode:
        raise Fell(f"stopped, exit code {done.returncode}: {done.said}")
    return same(whole, hurt, 10)
