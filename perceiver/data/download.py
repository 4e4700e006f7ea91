"""Downloads: official files, whole and verified, or not at all, and never waited for without end."""

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from perceiver.data.source import not_found

TIMEOUT = 60.0  # seconds without a byte
PIECE = 1 << 20


def retrieve(url: str, file: Path, sha256: str | None = None) -> None:
    """Writes what is at an address beside the file's place, and renames it when it is whole and right.

    Several processes may do it at once: each writes a file of its own.

    Args:
        url: the address.
        file: where it goes.
        sha256: of the content, in full, where one is known.

    Raises:
        OSError: when the address does not answer, falls silent, or breaks off.
        ValueError: when the content is another.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=file.parent) as beside:
        part = Path(beside) / file.name
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, open(part, "wb") as opened:
            promised = answer.headers.get("Content-Length")
            while piece := answer.read(PIECE):
                digest.update(piece)
                size += opened.write(piece)
        if promised is not None and size != int(promised):
            raise OSError(f"only {size} of {promised} bytes came")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ValueError(f"its SHA-256 is {digest.hexdigest()}, expected {sha256}")
        os.replace(part, file)


def fetch(what: str, urls: Sequence[str], file: Path, sha256: str) -> None:
    """Makes sure that a file is there with its official content. One that is there already is verified, not fetched.

    Args:
        what: the dataset's name, for messages.
        urls: tried in turn.
        file: where it goes.
        sha256: of the content, in full.

    Raises:
        OSError: when no address gives it, saying where the file may be put by hand.
        ValueError: when the file that is there is another one.
    """
    if file.exists():
        verify(file, sha256)
        return
    failures = []
    for url in urls:
        try:
            retrieve(url, file, sha256)
            return
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    raise not_found(f"{what}: {file.name}", [file.parent], f"could not fetch it ({'; '.join(failures)})")


def verify(file: Path, sha256: str) -> None:
    """Compares a file's content with its checksum.

    Raises:
        ValueError: naming the file and both sums.
    """
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{file} is not the official file: SHA-256 {found}, expected {sha256}. Delete it, and it is fetched again")
