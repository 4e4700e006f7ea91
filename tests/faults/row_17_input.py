"""One number in one sample is infinite."""

from pathlib import Path

from tests.faults.processes import fit_words
from tests.faults.row_16_loss import check_finite
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_ours import spoiled, step_of_a_picture
from tests.faults.subjects.faulty_peers import goes_on_with_sample
from tests.faults.subjects.faulty_runs import ended

FAULT = "one infinite number in one sample"
EXPECTED = "kept out of every batch, with the id of the sample"
NOT_APPLICABLE = {"accelerate": "the loop is the user's own, and so are the samples"}


def ours(folder: Path) -> str:
    """Infinity and NaN in a picture: beyond what may be bad, the run stops; else another row takes the place, and it goes on."""
    _, row = step_of_a_picture(after=5)
    done = ended("train.py", *fit_words(folder / "stopped", spoiled(row, float("inf")), "--data.init_args.num_workers=1")[1:])
    if done.returncode != 2 or f": row-{row} (its image holds infinity" not in done.said:
        raise Fell(f"exit code {done.returncode}: {done.said}")
    check_finite(folder / "stopped")
    with Warm("faulty_ours") as act:
        for value, word in ((float("inf"), "infinity"), (float("nan"), "NaN")):
            run = folder / word
            told = act(*fit_words(run, spoiled(row, value), "--data.init_args.bad_samples=0.05")[1:])
            if told.returncode or f"images/row-{row} cannot be read and another row takes its place: its image holds {word}" not in told.text:
                raise Fell(f"with {word} and bad_samples=0.05, exit code {told.returncode}: {told.said}")
            check_finite(run)
    return done.said


def lightning(folder: Path) -> str:
    """Infinity among the numbers of a row."""
    return goes_on_with_sample("lightning", folder)


def transformers(folder: Path) -> str:
    """Infinity among the numbers of a row."""
    return goes_on_with_sample("transformers", folder)
