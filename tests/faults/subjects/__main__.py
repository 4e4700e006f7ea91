"""Trains one subject again and again, as it is told line by line, each time in a process of its own: imports are done once, for all of them."""

import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence

from tests.faults.processes import TIMEOUT

Train = Callable[[Sequence[str]], int | None]


def main(subject: str) -> None:
    """Reads words, trains, and writes how it ended, until there are no more."""
    train = importlib.import_module(f"tests.faults.subjects.{subject}").main
    for line in sys.stdin:
        print(json.dumps(in_process(train, json.loads(line))), flush=True)


def in_process(train: Train, words: Sequence[str]) -> tuple[int, str]:
    """Trains in a process of its own: its exit code, and what it said."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = os.fork()
        if not process:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os._exit(alone(train, words))
        code = waited_for(process)
        said.seek(0)
        return code, said.read()


def alone(train: Train, words: Sequence[str]) -> int:
    """Trains as a script of its own would: what is not caught is told, and is the exit code 1."""
    try:
        code = train(words) or 0
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def waited_for(process: int) -> int:
    """The exit code of a process; one that hangs is killed."""
    end = time.monotonic() + TIMEOUT
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


if __name__ == "__main__":
    main(sys.argv[1])
