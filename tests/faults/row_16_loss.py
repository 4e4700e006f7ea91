"""The loss of a step is NaN or infinite."""

import json
import math
import re
from pathlib import Path

from perceiver import checkpoints
from tests.faults.processes import fit_words, last, losses
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_ours import spoiled, step_of_a_picture
from tests.faults.subjects.faulty_peers import goes_on_with
from tests.faults.subjects.faulty_runs import ended

FAULT = "the loss of a step is NaN or infinite"
EXPECTED = "stopped before the weights change, with step and samples; or the step is left out, where that is allowed"
NOT_APPLICABLE = {"accelerate": "the loop is the user's own"}

SPOIL_LOSS = "--model=tests.faults.subjects.faulty_ours.SpoilLoss"


def ours(folder: Path) -> str:
    """A number in one picture that is no infinity, but too large for the network; and a loss that is infinite, or NaN, by itself."""
    step, row = step_of_a_picture(after=5)
    done = ended("train.py", *fit_words(folder / "one row", spoiled(row, 3e38), "--data.init_args.num_workers=1")[1:])
    if done.returncode != 2 or not re.search(rf"^error: step {step}: the loss is nan, because of images/row-{row}\.", done.said):
        raise Fell(f"exit code {done.returncode}: {done.said}")
    check_good(folder / "one row", step)
    with Warm("faulty_ours") as act:
        for value in (math.inf, -math.inf, math.nan):
            run = folder / f"loss {value}"
            told = act(*fit_words(run, SPOIL_LOSS, f"--model.init_args.spoiled={value}")[1:])
            if told.returncode != 2 or not re.match(rf"error: step 5: the loss is {value}", told.said):
                raise Fell(f"exit code {told.returncode}: {told.said}")
            check_good(run, 5)
        guard = json.dumps([{"class_path": "perceiver.guards.StopNonFinite", "init_args": {"skip": 1}}])
        told = act(*fit_words(folder / "skip", SPOIL_LOSS, "--model.init_args.spoiled=nan", "--trainer.callbacks", guard)[1:])
        if told.returncode or "left out, number 1 of the 1" not in told.text:
            raise Fell(f"with skip=1, exit code {told.returncode}: {told.said}")
        check_finite(folder / "skip")
    return done.said


def check_good(run: Path, step: int) -> None:
    """Makes sure that a run stopped before it made a step, and that its last checkpoint is from before it, and good."""
    steps = [number for number, _ in losses(run)]
    if not steps or max(steps) >= step:
        raise Fell(f"it should have made steps up to {step - 1}, and made {steps}")
    written = check_finite(run)
    if written > step:
        raise Fell(f"its last checkpoint is from step {written}")


def check_finite(run: Path) -> int:
    """Makes sure that the weights of the last checkpoint are numbers; its step."""
    content = checkpoints.read(last(run))
    if wrong := [name for name, weight in content["state_dict"].items() if weight.is_floating_point() and not bool(weight.isfinite().all())]:
        raise Fell(f"{wrong[0]} in the last checkpoint is not finite")
    return int(content["global_step"])


def lightning(folder: Path) -> str:
    """A loss that is multiplied with NaN, or infinity, in one step."""
    return goes_on_with("lightning", folder)


def transformers(folder: Path) -> str:
    """A loss that is multiplied with NaN, or infinity, in one step."""
    return goes_on_with("transformers", folder)
