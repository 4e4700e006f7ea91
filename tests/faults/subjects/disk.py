"""Disks that are small, full, or read only: really mounted where that is allowed, and the nearest thing to it where it is not. And files on them."""

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"


def mounted(folder: Path, options: str) -> bool:
    """Mounts a disk in memory, if this process may."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode == 0


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small disk; an ordinary folder where none may be mounted."""
    there = mounted(folder, f"size={megabytes}m")
    try:
        yield folder
    finally:
        if there:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A folder that nothing can be written to; below a file, where the superuser may write to all folders and mount none."""
    there = mounted(folder, "ro")
    try:
        if not there and os.geteuid():
            folder.chmod(0o555)
        elif not there:
            folder.rmdir()
            folder.write_text("a file")
            folder = folder / "below"
        yield folder
    finally:
        if there:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def other_file_system() -> Iterator[Path]:
    """A folder that is not on the file system of temporary files."""
    with tempfile.TemporaryDirectory(prefix="fault-", dir="/dev/shm") as folder:
        if os.stat(folder).st_dev == os.stat(tempfile.gettempdir()).st_dev:
            raise RuntimeError(f"{folder} and {tempfile.gettempdir()} are on one file system: set TMPDIR to a folder elsewhere")
        yield Path(folder)


def fill(folder: Path, left: int) -> None:
    """Fills a small disk, but for some bytes; where it is an ordinary folder, this process may write no file that is larger."""
    if not os.path.ismount(folder):
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))
        return
    free = os.statvfs(folder)
    with open(folder / FILLER, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - left))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def empty(folder: Path) -> None:
    """Makes room again."""
    (folder / FILLER).unlink(missing_ok=True)


def cut(file: Path) -> None:
    """Takes the second half of a file away."""
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path, byte: int, bit: int) -> None:
    """Flips one bit of a file."""
    with open(file, "r+b") as opened:
        opened.seek(byte)
        value = opened.read(1)[0]
        opened.seek(byte)
        opened.write(bytes([value ^ 1 << bit]))
