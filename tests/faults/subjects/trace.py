"""Traces: step, loss and sample ids of each training step, digit by digit, by which two runs are compared."""

import csv
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.faults.scoreboard import Fell

NAME = "trace.csv"


class Step(NamedTuple):
    """A training step.

    Args:
        number: of updates before it.
        loss: as written by `repr`.
        samples: their ids.
        process: that made it.
    """

    number: int
    loss: str
    samples: str
    process: str


def note(folder: Path, number: int, loss: float, samples: str) -> None:
    """Adds a step to the trace of a run. The line is with the system before the step goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / NAME, "a", newline="") as file:
        csv.writer(file).writerow((number, repr(loss), samples, os.getpid()))


def steps(folder: Path) -> list[Step]:
    """All steps of a run in the order in which they were made, also those that were made twice."""
    if not (folder / NAME).exists():
        return []
    with open(folder / NAME, newline="") as file:
        return [Step(int(number), *rest) for number, *rest in csv.reader(file)]


def trajectory(folder: Path) -> dict[int, Step]:
    """The steps that count: where one was made again after resuming, the later one."""
    return {step.number: step for step in steps(folder)}


def starts(folder: Path) -> list[int]:
    """The first step of each process of a run."""
    first: dict[str, int] = {}
    for step in steps(folder):
        first.setdefault(step.process, step.number)
    return list(first.values())


def same(whole: Path, other: Path, *resumed: int) -> str:
    """Says that a run is, from where it was first resumed, the one that was left alone.

    Args:
        whole: folder of the run that was left alone.
        other: folder of the other.
        resumed: the first steps of its processes after the first: those of its checkpoints.

    Raises:
        Fell: with the number of steps that are not, when it is not.
    """
    if (begun := starts(other)[1:]) != list(resumed):
        raise Fell(f"it went on with step {', '.join(map(str, begun)) or 'none'}, and not with {', '.join(map(str, resumed))}")
    start = resumed[0]
    wanted, found = trajectory(whole), trajectory(other)
    later = [number for number in wanted if number >= start]
    missing = sum(number not in found for number in later)
    losses = sum(number in found and found[number].loss == wanted[number].loss for number in later)
    samples = sum(number in found and found[number].samples == wanted[number].samples for number in later)
    if losses == samples == len(later):
        return f"{losses} of {len(later)} later losses are bitwise equal, with the same samples"
    said = f"{losses} of {len(later)} later losses are equal, {samples} steps have the same samples"
    raise Fell(said + (f", {missing} are missing" if missing else "") + twice(found, wanted, start))


def twice(found: dict[int, Step], wanted: dict[int, Step], start: int) -> str:
    """Which samples of the epoch in which a run was resumed came again, or never."""
    epoch: list[int] = []
    seen: set[str] = set()
    for number, step in wanted.items():  # the epoch ends where the run that was left alone sees the first sample again
        if seen & set(step.samples.split()):
            if number > start:
                break
            epoch, seen = [], set()
        epoch.append(number)
        seen |= set(step.samples.split())
    counts = Counter(sample for number in epoch if number in found for sample in found[number].samples.split())
    again, never = sum(count > 1 for count in counts.values()), len(seen - counts.keys())
    return f"; of the {len(seen)} samples of that epoch {again} came twice and {never} never" if again or never else ""
