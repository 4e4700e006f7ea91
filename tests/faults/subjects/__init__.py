"""Subjects of the fault suite: this library and its peers, each as a training that can be killed, starved, and compared line by line.

Each module here has `main(words)`, a training of a toy model. `Warm` runs many of them without importing PyTorch each time.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.processes import environment, fit_words, last, start


class Done(NamedTuple):
    """How a training ended.

    Args:
        returncode: of its process; negative when a signal ended it.
        text: all that it said.
    """

    returncode: int
    text: str

    @property
    def said(self) -> str:
        """The last line of what it said, which is its error."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else "nothing"


class Warm:
    """Runs trainings of one subject, one after another, each in a process of its own, forked from one that has everything imported.

        with Warm("lightning") as train:
            done = train(folder, "--kill_at", 5)

    Args:
        subject: name of its module.
        more: environment, beside that of all runs.
    """

    def __init__(self, subject: str, **more: str) -> None:
        self.subject = subject
        self.more = more

    def __enter__(self) -> "Warm":
        self.process = start("-m", "tests.faults.subjects", self.subject, stdin=subprocess.PIPE, env=environment() | self.more)
        return self

    def __call__(self, *words: object) -> Done:
        """Trains."""
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.subject} cannot be run: {self.process.stderr.read()[-1000:]}")
        return Done(*json.loads(answer))

    def __exit__(self, *error: object) -> None:
        self.process.communicate(timeout=60)


def mixture(folder: Path, *options: str, **befalls: Any) -> tuple[str, ...]:
    """The words of a training of this library on the toy mixture, whose steps are noted.

    Args:
        folder: of the run.
        options: of the command line.
        befalls: what happens to it: `KillAt` or `TermAt` with a step, `StrikeSave` and `Fill` with all that they are given.
    """
    callbacks = [{"class_path": "tests.faults.subjects.ours.Note", "init_args": {"folder": str(folder)}}]
    for name, given in befalls.items():
        where = "toy_datasets" if name in ("KillAt", "TermAt") else "tests.faults.subjects.ours"
        callbacks.append({"class_path": f"{where}.{name}", "init_args": given if isinstance(given, dict) else {"step": given}})
    return *fit_words(folder, *options)[1:], "--trainer.callbacks", json.dumps(callbacks)


def resume(folder: Path) -> tuple[str, str]:
    """The option with which a run of this library goes on."""
    return "--ckpt_path", str(last(folder))
