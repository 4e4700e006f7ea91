"""Strikes: a process is hit by a signal at one moment of a save, any moment: before a file is touched, or when half of it is written.

What touches files is counted call by call: making, renaming and removing them, waiting for the disk, writing. Each call is a moment, and each that
writes has a second one, at its half.
"""

import builtins
import importlib
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLAIN = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync")  # of os
WRITERS = (("safetensors.torch", "serialize_file", 1), ("torch", "save", 1))  # and where their file stands among their arguments
SURVIVED = 3  # exit code of a process whose save has fewer moments than that at which it was to be hit


class Strike:
    """Hits this process once.

    Args:
        at: number of the moment, from 1; or the name of a file, before it is written.
        number: of the signal.
    """

    def __init__(self, at: int | str, number: int = signal.SIGKILL) -> None:
        self.at = int(at) if str(at).isdigit() else str(at)
        self.signal = number
        self.moments: list[str] = []
        self.undo: list[tuple[Any, str, Any]] = []

    def arm(self) -> None:
        """Counts from here on."""
        for name in PLAIN:
            self._wrap(os, name, self._plain)
        self._wrap(os, "sendfile", self._sendfile)
        for module in (builtins, io):  # pathlib has the second
            self._wrap(module, "open", self._open)
        for module, name, position in WRITERS:
            self._wrap(importlib.import_module(module), name, self._writer, position)

    def disarm(self) -> None:
        """Stops counting."""
        for where, name, real in self.undo:
            setattr(where, name, real)
        self.undo.clear()

    def _wrap(self, where: Any, name: str, how: Callable[..., Any], *more: Any) -> None:
        """Puts a counting function in the place of a real one."""
        real = getattr(where, name)
        self.undo.append((where, name, real))
        setattr(where, name, lambda *words, **options: how(name, real, *more, words, options))

    def _moment(self, name: str, file: Any) -> bool:
        """Counts a moment: whether it is the one."""
        self.moments.append(name if isinstance(file, int) else f"{name} {os.path.basename(os.fspath(file))}")
        return len(self.moments) == self.at

    def _hit(self) -> None:
        """Sends the signal; when it kills, nothing comes after it."""
        os.kill(os.getpid(), self.signal)

    def _plain(self, name: str, real: Callable[..., Any], words: Any, options: Any) -> Any:
        """A call with one moment, before it."""
        if self._moment(name, words[0]):
            self._hit()
        return real(*words, **options)

    def _before(self, name: str, file: Any) -> None:
        """The moment before a file is written, which may have been asked for by the file's name."""
        if self._moment(name, file) or (isinstance(self.at, str) and self.at in str(file)):
            self._hit()

    def _writer(self, name: str, real: Callable[..., Any], position: int, words: Any, options: Any) -> Any:
        """A call that writes a whole file: half of it is cut off afterwards, when that is the moment."""
        file = words[position] if len(words) > position else options.get("f", options.get("filename"))
        if not isinstance(file, str | Path):
            return real(*words, **options)  # into memory
        self._before(name, file)
        if self._moment(f"half of {name}", file):
            real(*words, **options)
            os.truncate(file, os.path.getsize(file) // 2)
            self._hit()
        return real(*words, **options)

    def _sendfile(self, name: str, real: Callable[..., Any], words: Any, options: Any) -> Any:
        """Copies half of a file at the most, when that is the moment."""
        target, source, offset, _ = words
        if not offset and self._moment("half of sendfile", target):
            real(target, source, 0, os.fstat(source).st_size // 2)
            self._hit()
        return real(*words, **options)

    def _open(self, name: str, real: Callable[..., Any], words: Any, options: Any) -> Any:
        """Opens a file; those that are opened to be written have two moments."""
        mode = options.get("mode", words[1] if len(words) > 1 else "r")
        if not set(mode) & set("wax") or not isinstance(words[0], str | Path):
            return real(*words, **options)
        self._before(name, words[0])
        file = real(*words, **options)
        file.write = self._half_first(file, file.write, words[0])
        return file

    def _half_first(self, file: Any, write: Callable[[Any], Any], name: str | Path) -> Callable[[Any], Any]:
        """In place of a file's `write`: the first time, half of it may be written, and no more."""

        def writes(text: Any) -> Any:
            file.write = write
            if self._moment("half of write", name):
                write(text[: len(text) // 2])
                file.flush()
                self._hit()
            return write(text)

        return writes
