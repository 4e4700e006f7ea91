"""A batch is too large for the memory that there is."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.faults.processes import losses
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_peers import trains_on_much
from tests.faults.subjects.faulty_runs import ended

FAULT = "a batch that does not fit into memory"
EXPECTED = "an error that says what takes how many bytes, and a batch size that fits, and does; or the batch is gone through in parts"

ROWS, MORE = 4_000, 600_000_000  # of the batch; bytes of address space beside what a process has when training starts
PARTS = ("weights", "gradients", "optimizer", "kept by cross_attends", "kept by stacks")
SPEAKS = re.compile(r"A batch of (\d+) rows fits")


def ours(folder: Path) -> str:
    """With a data worker; then with as many rows as it says, and with the whole batch in parts."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(training()))
    done = ended("train.py", "fit", "-c", str(config), "--run_dir", str(folder / "large"), "--data.init_args.num_workers=1")
    told = SPEAKS.search(done.said)
    if done.returncode != 2 or told is None or (missing := [part for part in PARTS if not re.search(rf"{part}\S* [\d.,]+ MB", done.said)]):
        raise Fell(f"exit code {done.returncode}{'' if told is None else f', without {missing}'}: {done.said}")
    rows = int(told[1])
    if not ROWS / 50 < rows < ROWS / 2:
        raise Fell(f"it says that {rows} rows fit, which is not so: {done.said}")
    with Warm("faulty_ours") as act:
        fits = act("fit", "-c", config, "--run_dir", folder / "fits", f"--data.init_args.batch_size={rows}")
        check_trained(fits, folder / "fits", f"with the {rows} rows that it said")
        over = act("fit", "-c", config, "--run_dir", folder / "over", f"--data.init_args.batch_size={min(ROWS, 4 * rows)}")
        if not over.returncode:
            raise Fell(f"it says that {rows} rows fit, and four times as many do")
        parts = act("fit", "-c", config, "--run_dir", folder / "parts", "--model.init_args.micro_batches=perceiver.tasks.MicroBatches")
        check_trained(parts, folder / "parts", "in parts")
        halved = re.findall(r"gone through in (\d+) parts", parts.text)
        if not halved:
            raise Fell(f"the batch was not gone through in parts: {parts.said}")
    return f"{told[0]}, and trains; in {halved[-1]} parts the whole batch does. It said: {done.said}"


def check_trained(done: Any, run: Path, what: str) -> None:
    """Makes sure that a run made all its steps."""
    if done.returncode or len(losses(run)) != training()["trainer"]["max_steps"]:
        raise Fell(f"{what}, exit code {done.returncode}: {done.said}")


def training() -> dict[str, Any]:
    """The configuration of a training with large pictures and a very large batch."""
    at = "tests.faults.subjects.faulty_ours"
    model = {
        "adapters": {"image": part("perceiver.adapters.ImagePatches", channels=2, size=[48, 48], patch=2, num_bands=2)},
        "encoder": part(
            "perceiver.encoder.Encoder",
            num_latents=16,
            dim=64,
            context_dim=32,
            num_layers=2,
            self_block=part("perceiver.blocks.SelfBlock", heads=4),
        ),
        "decoder": part("perceiver.decoder.Decoder", query_dim=32, latent_dim=64),
    }
    trainer = {"max_steps": 3, "max_epochs": -1, "accelerator": "cpu", "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "callbacks": [part(f"{at}.LimitMemory", more=MORE)]}
    pictures = {"pictures": {"source": part(f"{at}.LargePictures")}}
    return json.loads(
        json.dumps(
            {
                "trainer": trainer | quiet,
                "data": part("perceiver.data.MixedDataModule", batch_size=ROWS, steps_per_epoch=3, num_workers=0, datasets=pictures),
                "model": part("perceiver.tasks.Multitask", warmup_steps=1, model=part("perceiver.models.MultitaskPerceiver", **model)),
            }
        )
    )


def part(class_path: str, **given: Any) -> dict[str, Any]:
    """A class and what it is given, for a configuration."""
    return {"class_path": class_path, "init_args": given}


def lightning(folder: Path) -> str:
    """80,000 rows in one batch."""
    return trains_on_much("lightning", folder)


def transformers(folder: Path) -> str:
    """80,000 rows in one batch."""
    return trains_on_much("transformers", folder)


def accelerate(folder: Path) -> str:
    """80,000 rows in one batch."""
    return trains_on_much("accelerate", folder)
