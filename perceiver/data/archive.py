"""Archives of datasets: unpacked whole and verified, or not at all."""

import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from perceiver.data.download import retrieve
from perceiver.data.source import not_found

MOST_BYTES = 20_000_000_000  # that the content of an archive may claim


def unpack(archive: Path, inside: str, folder: Path, check: Callable[[Path], None]) -> None:
    """Unpacks one folder of a tar archive.

    It is unpacked beside its place, verified, and only then renamed; several processes may do it at once.

    Args:
        archive: in any compression that Python reads.
        inside: pattern of the folder in it; "." for all of it.
        folder: where the folder goes.
        check: raises a `ValueError` when it is not the right one.

    Raises:
        ValueError: when the archive is broken, leads out of its folder, claims too much, or does not hold the right folder.
        OSError: when there is no room, or no right to write.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as beside:
        content = Path(beside) / "content"
        content.mkdir()
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(content, members(tar), filter="data")
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{archive} cannot be unpacked ({' '.join(str(error).split())}): fetch it again") from error
        found = content if inside == "." else next(content.glob(inside), None)
        if found is None:
            raise ValueError(f"{archive} holds no {inside}: it is another archive, or its layout has changed")
        check(found)
        try:
            os.rename(found, folder)
        except OSError:
            if not folder.is_dir():
                raise
            check(folder)  # another process was faster: what it put there is taken, when it is right


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """What is in an archive, as long as all of it together has a size that can be true, and is to lie in its folder.

    Raises:
        tarfile.TarError: when it has not, or is not.
    """
    total = 0
    for member in tar:
        total += member.size
        if total > MOST_BYTES:
            raise tarfile.TarError(f"its content claims more than {MOST_BYTES:,} bytes")
        if member.name.startswith(("/", "\\")):  # which the filter would take away, and unpack the rest
            raise tarfile.TarError(f"{member.name} in it is an absolute path")
        yield member


def download(what: str, url: str, inside: str, folder: Path, check: Callable[[Path], None]) -> None:
    """Fetches and unpacks an archive that has no published checksum: what is verified is its content.

    Args:
        what: the dataset's name, for messages.
        url: the official address.
        inside, folder, check: see `unpack`.

    Raises:
        OSError: when it cannot be fetched, saying where the files may be put by hand.
        ValueError: as of `unpack`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as beside:
        archive = Path(beside) / "archive"
        try:
            retrieve(url, archive)
        except OSError as error:
            raise not_found(what, [folder.parent], f"could not fetch {url}: {error}") from error
        unpack(archive, inside, folder, check)
