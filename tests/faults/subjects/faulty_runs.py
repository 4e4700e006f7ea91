"""What becomes of a run in which something happens: when it ends, what it says, and what it leaves behind."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.processes import environment, start
from tests.faults.scoreboard import Fell

MARK = "struck"  # name of the file that says when it happened
STARTS_WITHIN = 90.0  # seconds, in which it must have
ERROR = re.compile(r"^(error: |([A-Za-z_]\w*\.)*[A-Z]\w*(Error|Exception|Interrupt)\b)", re.MULTILINE)
HANGS = 60.0  # seconds, after which a run that should have ended hangs
LINGERS = 3.0  # seconds that a process or a file may take to go


class Aftermath(NamedTuple):
    """What became of a run.

    Args:
        returncode: None when it had not ended, and was killed.
        text: all that it said.
        seconds: from what happened to the first word of an error; 0 where that was not watched.
        left: processes, files of shared memory, and temporary files; none where that was not watched.
    """

    returncode: int | None
    text: str
    seconds: float
    left: list[str]

    @property
    def said(self) -> str:
        """The error that it told."""
        return error_in(self.text)


def ended(*words: str, within: float = 120.0) -> Aftermath:
    """How a run of Python with some words ended.

    Raises:
        Fell: when it did not.
    """
    with start(*words, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            text, _ = process.communicate(timeout=within)
        except subprocess.TimeoutExpired as error:
            raise Fell(f"it had not ended after {within:g} s, and had said: {error_in((error.output or b'').decode(errors='replace'))}") from None
        finally:
            for number in _session(process.pid):
                os.kill(number, signal.SIGKILL)
    return Aftermath(process.returncode, text, 0.0, [])


def error_in(text: str) -> str:
    """The error that a process told: the last line of a traceback that names one, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if ERROR.match(line)), lines[-1] if lines else "nothing")


def aftermath(folder: Path, *words: str, within: float) -> Aftermath:
    """Runs Python with some words, and watches what becomes of it.

    Args:
        folder: where what happens is marked, and what is temporary goes.
        words: of the run.
        within: seconds after it happened, after which the run counts as hung.
    """
    temporary, log = folder / "temporary", folder / "said"
    temporary.mkdir(parents=True)
    shared = set(os.listdir("/dev/shm"))
    with open(log, "w") as said:
        options = dict(stdout=said, stderr=subprocess.STDOUT, start_new_session=True, env=environment() | {"TMPDIR": str(temporary)})
        process = start(*words, **options)
        try:
            struck = _struck(folder, process)
            seconds = 0.0
            while process.poll() is None and time.time() < struck + within:
                time.sleep(0.02)
                if not seconds and ERROR.search(log.read_text(errors="replace")):
                    seconds = time.time() - struck
            seconds, code = seconds or time.time() - struck, process.poll()
            left = [] if code is None else _left(process.pid, shared, temporary)
        finally:
            for number in _session(process.pid):
                os.kill(number, signal.SIGKILL)
            process.wait()
    return Aftermath(code, log.read_text(errors="replace"), seconds, left)


def _struck(folder: Path, process: subprocess.Popen[str]) -> float:
    """When it happened."""
    end = time.monotonic() + STARTS_WITHIN
    while not (mark := folder / MARK).exists() or not mark.read_text():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"nothing happened to the run: {(folder / 'said').read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
    return float(mark.read_text())


def _left(session: int, shared: set[str], temporary: Path) -> list[str]:
    """What a run that has ended leaves behind, and does not go by itself."""
    processes = _stays(lambda: {f"process {number}" for number in _session(session)})
    memory = _stays(lambda: {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name not in shared})
    return sorted(processes | memory) + sorted(f"temporary {path.name}" for path in temporary.iterdir())


def _stays(look: Callable[[], set[str]]) -> set[str]:
    """What is seen each time; what is of other programs comes and goes."""
    found, end = look(), time.monotonic() + LINGERS
    while found and time.monotonic() < end:
        time.sleep(0.1)
        found &= look()
    return found


def _session(leader: int) -> list[int]:
    """The processes of a session that are running."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(session) == leader and state != "Z":
                found.append(int(folder.name))
    return found


def worker_lost(found: Aftermath, within: float, *needed: str) -> str:
    """Says how a run told that a data worker was lost.

    Args:
        found: what became of it.
        within: seconds that it may take to tell it.
        needed: words that must stand in its error.

    Raises:
        Fell: when it did not tell it, or not in time, or left something behind.
    """
    if found.returncode is None:
        raise Fell(f"it hung, and had said: {found.said}")
    if not found.returncode:
        raise Fell(f"it ended as if nothing had happened: {found.said}")
    if found.seconds > within:
        raise Fell(f"it took {found.seconds:.1f} s until it said: {found.said}")
    if missing := [word for word in needed if word not in found.said]:
        raise Fell(f"after {found.seconds:.1f} s it said, without {' or '.join(missing)}: {found.said}")
    if found.left:
        raise Fell(f"it left {', '.join(found.left[:5])}")
    return f"after {found.seconds:.1f} s: {found.said}"


class Server:
    """Gives the files of a folder away, to this machine alone, and notes what it was asked for.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            """Without a word."""

            def log_message(self, *words: Any) -> None:
                asked.append(self.path)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server of a folder that is made for it."""
    folder.mkdir()
    server = Server(folder)
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()
