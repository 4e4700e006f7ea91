"""Downloads: official files, whole and verified, or not at all."""

import hashlib
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import torch

from perceiver.data.source import not_found


def fetch(what: str, urls: Sequence[str], file: Path, sha256: str) -> None:
    """Makes sure that a file is there with its official content.

    It is written beside its place, verified, and only then renamed; one that is there already is verified, not fetched.

    Args:
        what: the dataset's name, for messages.
        urls: tried in turn.
        file: where it goes.
        sha256: of the content, in full.

    Raises:
        OSError: when no address answers, saying where the file may be put by hand.
        ValueError: when the file that is there is another one.
    """
    if file.exists():
        verify(file, sha256)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=sha256, progress=False)
            return
        except (urllib.error.URLError, OSError, RuntimeError) as error:  # the last is torch's word for a wrong checksum
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
