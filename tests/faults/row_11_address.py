"""A checkpoint that is named by an address holds code."""

import json
from pathlib import Path

from tests.faults.processes import fit_words
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_files import check_live, has_run, save_with_payload
from tests.faults.subjects.faulty_runs import error_in, served

FAULT = "code in a checkpoint from an address"
EXPECTED = "the same as on this machine: refused, and nothing of it runs"
NOT_APPLICABLE = {"transformers": "the Trainer takes folders on this machine", "accelerate": "load_state takes folders on this machine"}

READERS = ("checkpoints.read", "checkpoints.resumable", "load_from_checkpoint", "from_pretrained")


def ours(folder: Path) -> str:
    """Resumed, tested, read as a task and as a model. Not even a request is made."""
    check_live(folder)
    with Warm("faulty_ours") as act, served(folder / "public") as server:
        marker = folder / "ran"
        save_with_payload({"state_dict": {}, "global_step": 3}, server.folder / "toy.ckpt", marker)
        for command in ("fit", "test"):
            done = act(command, *fit_words(folder / "run")[2:], "--ckpt_path", f"{server.address}/toy.ckpt")
            if done.returncode != 2:
                raise Fell(f"exit code {done.returncode}: {done.said}")
        for reader, told in json.loads(act("read", f"{server.address}/toy.ckpt", *READERS).said).items():
            if not told["said"]:
                raise Fell(f"{reader} took it for good")
        if marker.exists() or server.asked:
            raise Fell(f"the code in it ran: {marker.exists()}; asked for: {server.asked}")
    return error_in(done.text)


def lightning(folder: Path) -> str:
    """`Trainer.fit(ckpt_path=...)`, and `load_from_checkpoint`."""
    check_live(folder)
    with Warm("faulty_lightning", TORCH_HOME=str(folder / "cache")) as act, served(folder / "public") as server:
        act("train", folder / "run")
        said = []
        for words in (("resume", folder / "run", f"{server.address}/resume.ckpt"), ("load", f"{server.address}/load.ckpt")):
            marker = folder / f"ran {words[0]}"
            save_with_payload({"state_dict": {}, "global_step": 3}, server.folder / f"{words[0]}.ckpt", marker)
            done = act(*words)
            if has_run(marker, done.text):
                said.append(f"{words[0]} ran it")
        if said:
            raise Fell(f"{' and '.join(said)}; it was asked for {', '.join(server.asked)}")
        if not done.returncode:
            raise Fell(f"it was taken for good: {done.said}")
    return error_in(done.text)
