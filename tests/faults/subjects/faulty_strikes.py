"""What befalls a process from within: it is killed, hangs, or gets no more memory."""

import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path


def strike(how: str, folder: Path, process: int | None = None) -> None:
    """Kills a process, or lets this one hang, once in a run, and notes when.

    Args:
        how: "killed" or "hangs".
        folder: for the note.
        process: this one when not given.
    """
    with suppress(FileExistsError), open(folder / "struck", "x") as mark:
        mark.write(str(time.time()))
        mark.flush()
        if how == "killed":
            os.kill(process or os.getpid(), signal.SIGKILL)
        else:
            time.sleep(3600)


def limit_memory(more: int) -> None:
    """Allows this process so many more bytes of address space than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
