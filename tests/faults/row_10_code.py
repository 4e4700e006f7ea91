"""A checkpoint on this machine holds code, as a pickle can."""

import json
from pathlib import Path
from typing import Any

from perceiver import checkpoints
from tests.faults.processes import fit_words, last
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Done, Warm
from tests.faults.subjects.faulty_files import check_live, has_run, save_with_payload
from tests.faults.subjects.faulty_peers import resumed_from_code

FAULT = "code in a checkpoint on this machine"
EXPECTED = "refused, and nothing of it runs"

SHORT = ("--trainer.max_steps=4", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1")
READERS = ("checkpoints.read", "checkpoints.resumable", "load_from_checkpoint", "from_pretrained")


def ours(folder: Path) -> str:
    """Resumed, tested, read as a task and as a model: files in both forms of `torch.save`, and the folder of a model."""
    check_live(folder)
    with Warm("faulty_ours") as act:
        words = fit_words(folder / "run", *SHORT)[1:]
        if (done := act(*words)).returncode:
            raise Fell(f"exit code {done.returncode}: {done.said}")
        content = checkpoints.read(last(folder / "run"))
        for zipped in (True, False):
            file, marker = folder / f"{zipped}.ckpt", folder / f"ran {zipped}"
            save_with_payload(content, file, marker, zipped=zipped)
            for command in ("fit", "test"):
                said = refused(act(command, *words[1:], "--ckpt_path", file), marker)
            read_refused(act("read", file, *READERS), marker)
        model, marker = folder / "model", folder / "ran model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps({"model_type": "perceiver", "architectures": ["PerceiverForMaskedLM"]}))
        save_with_payload(content["state_dict"], model / "pytorch_model.bin", marker)
        read_refused(act("read", model, "from_pretrained"), marker)
    return said


def refused(done: Done, marker: Path) -> str:
    """What the command line said when it refused a file."""
    if has_run(marker, done.text):
        raise Fell(f"the code in it ran: {done.said}")
    if done.returncode != 2 or not done.said.startswith("error: "):
        raise Fell(f"exit code {done.returncode}: {done.said}")
    return done.said


def read_refused(done: Done, marker: Path) -> None:
    """Makes sure that all readers refused a file."""
    if has_run(marker, done.text):
        raise Fell(f"the code in it ran: {done.said}")
    found: dict[str, Any] = json.loads(done.said)
    if taken := [reader for reader, told in found.items() if not told["said"]]:
        raise Fell(f"{', '.join(taken)} took it for good")


def lightning(folder: Path) -> str:
    """`Trainer.fit(ckpt_path=...)`, and `load_from_checkpoint`."""
    return resumed_from_code("lightning", folder, "toy.ckpt")


def transformers(folder: Path) -> str:
    """`Trainer.train(resume_from_checkpoint=...)`, with code in one of its files after the other."""
    return resumed_from_code("transformers", folder, "checkpoint-10")


def accelerate(folder: Path) -> str:
    """`load_state`, with code in one of its files after the other, that of a registered object among them."""
    return resumed_from_code("accelerate", folder, "state")
