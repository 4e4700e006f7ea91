"""Manifest: what a checkpoint consists of, written when all of it is there. Without one, or with one that does not verify, it is no checkpoint."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST = "MANIFEST.json"
FORMAT, VERSION = "perceiver-lightning checkpoint", 1
NAME = re.compile("[A-Za-z0-9_.-]{1,100}")  # of a file
MOST_BYTES = 10_000_000  # of the manifest itself


class Damaged(ValueError):
    """A checkpoint, or a file of one, is not what was written."""


class Manifest(NamedTuple):
    """What a checkpoint consists of.

    Args:
        step: of the training, by which checkpoints are ordered.
        files: size in bytes and SHA-256 of each file, by its name.
    """

    step: int
    files: dict[str, tuple[int, str]]


def seal(folder: Path, names: Sequence[str], step: int) -> None:
    """Writes the manifest of files that are complete and on disk."""
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": checksum(folder / name)} for name in names}
    content = {"format": FORMAT, "version": VERSION, "step": step, "files": files}
    write_text(folder / MANIFEST, json.dumps(content | {"sha256": sum_of(content)}, indent=2) + "\n")
    sync(folder)


def read_manifest(folder: Path) -> Manifest:
    """What the manifest says; the files themselves are not looked at.

    Raises:
        Damaged: when there is none, or it is not one.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise Damaged(f"{folder} has no {MANIFEST}: it was not written to its end")
    if file.stat().st_size > MOST_BYTES:
        raise Damaged(f"{file} has {file.stat().st_size:,} bytes, and a manifest at most {MOST_BYTES:,}")
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        own, version, step = content.pop("sha256"), content["version"], content["step"]
        files = {name: (said["bytes"], said["sha256"]) for name, said in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{file} is damaged: {type(error).__name__}: {' '.join(str(error).split())[:100]}") from error
    if content.get("format") != FORMAT or not isinstance(version, int) or not isinstance(step, int):
        raise Damaged(f"{file} is of another format: {str(content.get('format'))[:100]!a}, and this is {FORMAT!r}")
    if version > VERSION:
        raise Damaged(f"{file} has version {version}, and this library reads up to {VERSION}: update perceiver-lightning")
    if own != sum_of(content):
        raise Damaged(f"{file} is damaged: its own SHA-256 is not the one that it says")
    for name, (size, sha256) in files.items():
        # A name with a folder in it would read, and have its sum compared with, a file elsewhere.
        if not NAME.fullmatch(name) or name in (".", "..", MANIFEST) or not isinstance(size, int) or not isinstance(sha256, str):
            raise Damaged(f"{file} names {name[:100]!a}, which is no file of a checkpoint")
    return Manifest(step, files)


def verify(folder: Path) -> Manifest:
    """Reads all files of a checkpoint, and compares them with the manifest.

    Raises:
        Damaged: naming the first file that is missing, or another one.
    """
    manifest = read_manifest(folder)
    for name, (size, sha256) in manifest.files.items():
        file = folder / name
        if not file.is_file() or file.is_symlink():
            raise Damaged(f"{file} is missing")
        if file.stat().st_size != size:
            raise Damaged(f"{file} has {file.stat().st_size:,} bytes, and {size:,} were written")
        if checksum(file) != sha256:
            raise Damaged(f"{file} is damaged: its SHA-256 is not the one in {MANIFEST}")
    return manifest


def sum_of(content: dict[str, Any]) -> str:
    """The SHA-256 of what a manifest says."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def checksum(file: Path) -> str:
    """The SHA-256 of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_text(file: Path, text: str) -> None:
    """Writes a file, and waits until it is on disk."""
    with open(file, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def sync(path: Path) -> None:
    """Waits until a file, or what a folder lists, is on disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
