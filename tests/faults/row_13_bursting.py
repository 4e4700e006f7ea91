"""A checkpoint of half a megabyte becomes hundreds of megabytes when it is unpacked."""

import json
from pathlib import Path
from typing import Any

from perceiver import checkpoints
from tests.faults.processes import fit_words, last
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_files import BOMB_BYTES, pack_tight
from tests.faults.subjects.faulty_peers import resumed_from_bomb

FAULT = f"a checkpoint that is packed, and has {BOMB_BYTES / 1e6:.0f} MB when it is unpacked"
EXPECTED = "refused from its header, with less than 50 MB of memory"

SHORT = ("--trainer.max_steps=4", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1")
MOST_BYTES = 50_000_000
READERS = ("checkpoints.read", "checkpoints.resumable", "load_from_checkpoint", "from_pretrained")


def ours(folder: Path) -> str:
    """Read as a checkpoint, a task and a model, and as the weights in the folder of a model."""
    with Warm("faulty_ours") as act:
        if (done := act(*fit_words(folder / "run", *SHORT)[1:])).returncode:
            raise Fell(f"exit code {done.returncode}: {done.said}")
        content = checkpoints.read(last(folder / "run"))
        file, model = folder / "toy.ckpt", folder / "model"
        pack_tight(content, file)
        found: dict[str, Any] = json.loads(act("read", file, *READERS).said)
        model.mkdir()
        (model / "config.json").write_text(json.dumps({"model_type": "perceiver", "architectures": ["PerceiverForMaskedLM"]}))
        pack_tight(content["state_dict"], model / "pytorch_model.bin")
        found["the folder of a model"] = json.loads(act("read", model, "from_pretrained").said)["from_pretrained"]
        for reader, told in found.items():
            if not told["said"]:
                raise Fell(f"{reader} took it for good")
            if told["bytes"] > MOST_BYTES:
                raise Fell(f"{reader} took {told['bytes'] / 1e6:.0f} MB to refuse it")
        done = act(*fit_words(folder / "other", *SHORT, "--ckpt_path", str(file))[1:])
    if done.returncode != 2:
        raise Fell(f"exit code {done.returncode}: {done.said}")
    return f"with {max(told['bytes'] for told in found.values()) / 1e6:.1f} MB: {done.said}"


def lightning(folder: Path) -> str:
    """`Trainer.fit(ckpt_path=...)`."""
    return resumed_from_bomb("lightning", folder, "toy.ckpt", MOST_BYTES)


def transformers(folder: Path) -> str:
    """`Trainer.train(resume_from_checkpoint=...)`, with one of its files after the other."""
    return resumed_from_bomb("transformers", folder, "checkpoint-10", MOST_BYTES)


def accelerate(folder: Path) -> str:
    """`load_state`, with one of its files after the other."""
    return resumed_from_bomb("accelerate", folder, "state", MOST_BYTES)
