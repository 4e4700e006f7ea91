"""A run is killed while it overwrites its last checkpoint, at every moment of that, on another file system than that of temporary files."""

import json
import signal
from pathlib import Path

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.disk import other_file_system
from tests.faults.subjects.strike import SURVIVED
from tests.faults.subjects.trace import same, starts

FAULT = "kill -9 while last is overwritten, at any moment, temporary files on another file system"
EXPECTED = "what was there, or the new one, can be resumed"

# In whole trainings: half of the weights are written; the previous one is half removed; the old one has gone and the new one not come.
TRAINED = ("half of serialize_file weights.safetensors", "unlink MANIFEST.json", "rename last.ckpt.part")


def ours(folder: Path) -> str:
    """Every moment of a save by itself; whole trainings at three of them."""
    with other_file_system() as place, Warm("ours") as train:
        whole = place / "whole"
        if (done := train(*mixture(whole))).returncode:
            raise Fell(done.said)
        new, old = whole / "checkpoints" / "last.ckpt", whole / "checkpoints" / "last.ckpt.previous"
        found, moment = [], 0
        while True:
            moment += 1
            last = place / str(moment) / "last.ckpt"
            done = train("save", old, new, last, moment)
            if done.returncode == SURVIVED:
                break
            looked = train("look", old, new, last)
            if done.returncode != -signal.SIGKILL or looked.returncode or looked.said not in ("old", "new"):
                raise Fell(f"moment {moment}: {done.said}; then {looked.said}")
            found.append(looked.said)
        moments = json.loads(done.said)
        for name in TRAINED:
            killed = place / name
            done = train(*mixture(killed, StrikeSave={"step": 9, "at": 1 + moments.index(name)}))
            if done.returncode != -signal.SIGKILL:
                raise Fell(f"{name}: {done.said}")
            if (done := train(*mixture(killed, *resume(killed)))).returncode:
                raise Fell(f"{name}: {done.said}")
            same(whole, killed, 9 if name == TRAINED[-1] else 7)
    return (
        f"killed at each of {len(moments)} moments, the old one is read {found.count('old')} times and the new one {found.count('new')} times; "
        f"whole trainings, killed at {len(TRAINED)} of them, went on bit by bit"
    )


def lightning(folder: Path) -> str:
    """`last.ckpt`, which is written to the folder for temporary files and moved, and the file of the newest step beside it."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """It never writes over a checkpoint: each has a folder of its own."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """`save_state` into one folder."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Checkpoints every 10 steps, at the ends of epochs; killed at each moment of the second save, until one is not survived.

    What it finds by itself is tried, and then each checkpoint that is there, by its name: row 4 asks whether one has to know which is whole.
    """
    options = ("--in_order", "--save_every", 10, "--steps", 24)
    with other_file_system() as place, Warm(subject) as train:
        if (done := train(place / "whole", *options)).returncode:
            raise Fell(done.said)
        moment = 0
        while True:
            moment += 1
            killed = place / str(moment)
            done = train(killed, "--strike", moment, *options)
            if done.returncode == SURVIVED:
                break
            if done.returncode != -signal.SIGKILL:
                raise Fell(f"moment {moment} of the save: {done.said}")
            there = sorted((killed / "checkpoints").iterdir())
            for asked in ((), *((one,) for one in there)):
                resumed = train(killed, "--resume", *asked, *options)
                if not resumed.returncode:
                    break
            else:
                raise Fell(f"killed at moment {moment} of the save: {resumed.said}; there are {', '.join(one.name for one in there)}")
            same(place / "whole", killed, 20 if 20 in starts(killed) else 10)
    return f"killed at each of {moment - 1} moments, a whole checkpoint was there"
