"""Shards: a dataset whose rows stand decoded in a few large files, in a folder or at an object store.

The files are those of litdata (its downloaders fetch them), each with many rows; `perceiver.data.mixture.sharding` writes them. What
the rows hold and what they are for stands beside them, so that the address is all that a configuration needs. A row is what
it is wherever it is read from: rows are addressed by number, and only which file is on this machine depends on the reader.
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perceiver.data.row_bytes import from_bytes
from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split

DATASET, INDEX = "dataset.json", "index.json"
REMOTE = ("s3://", "gs://", "azure://", "r2://", "local:")
TURNS = 100  # how often a shard may be removed by another process between arriving and being opened


class Shard(NamedTuple):
    """One file of rows.

    Args:
        name: of the file.
        rows: in it.
        bytes: of it.
        sha256: of its content; None where the shards were written by an older version, which kept none.
    """

    name: str
    rows: int
    bytes: int
    sha256: str | None = None


class Shards(Source):
    """A dataset that `perceiver.data.mixture.sharding.write_shards` wrote.

    A remote shard is fetched whole when the first of its rows is asked for; processes of one machine fetch it once.

    Args:
        url: of its folder: a path, or an address that starts with s3://, gs://, azure:// or r2://. Credentials are looked for where
            the tools of that store look for them.
        cache: folder of this machine for what is fetched; on a cluster, one on the node's own disk.
        cache_bytes: the most that is kept there of one split; beyond, the shards that were opened longest ago are removed. All stay when not given.
        timeout: seconds to wait for one shard.

    Raises:
        ValueError: when the address is of another kind, or a number is not positive.
    """

    def __init__(self, url: str, *, cache: str = "data/shards", cache_bytes: int | None = None, timeout: float = 300.0) -> None:
        if "://" in url and not url.startswith(REMOTE):
            raise ValueError(f"url={url}: give a path, or an address that starts with {', '.join(REMOTE[:-1])}")
        if timeout <= 0 or (cache_bytes is not None and cache_bytes < 1):
            raise ValueError(f"timeout={timeout}, cache_bytes={cache_bytes}: give positive numbers")
        self.url = url.rstrip("/")
        self.cache = Path(cache)
        self.cache_bytes = cache_bytes
        self.timeout = timeout

    @cached_property
    def description(self) -> dict[str, Any]:
        """What was written beside the shards: `entries`, `ragged`, `classes`, `task` and `splits`.

        Raises:
            OSError: when it is not there.
            ValueError: when it is something else.
        """
        return parsed(read(f"{self.url}/{DATASET}", self.timeout), f"{self.url}/{DATASET}", ("entries", "ragged", "classes", "task", "splits"))

    @property
    def entries(self) -> tuple[str, ...]:  # type: ignore[override]
        """Raw entries that a row may hold."""
        return tuple(self.description["entries"])

    @property
    def ragged(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of them that vary in length."""
        return tuple(self.description["ragged"])

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return tuple(self.description["classes"])

    @property
    def task(self) -> dict[str, Any]:
        """What a model learns here."""
        return dict(self.description["task"])

    def rows(self, split: Split) -> "ShardRows":
        """The rows of a split. Of a remote one, only the list of its shards is fetched.

        Raises:
            OSError: when the list is not there.
            ValueError: when the split was not written, or its shards are of another kind.
        """
        if split not in self.description["splits"]:
            raise ValueError(f"{self.url} has no {split} split, only {', '.join(self.description['splits'])}: write it with write_shards")
        url = f"{self.url}/{split}"
        index = read(f"{url}/{INDEX}", self.timeout)
        digest = hashlib.sha256(index).hexdigest()
        # Shards of the same name that were written at another time must not be taken for these.
        folder = self.cache / digest[:16] if url.startswith(REMOTE) else Path(url)
        sums = dict(self.description["splits"][split].get("sha256", {}))
        return ShardRows(url, shards_of(index, url, sums), folder, digest, cache_bytes=self.cache_bytes, timeout=self.timeout)


class ShardRows(Rows):
    """Rows of one split, of which the shard that was read last is open.

    Args:
        url: of the split's folder.
        shards: in the order of their rows.
        folder: where they are, or go to when they are fetched.
        digest: of the list of shards: the same for the same rows.
        cache_bytes: see `Shards`.
        timeout: see `Shards`.
    """

    def __init__(self, url: str, shards: Sequence[Shard], folder: Path, digest: str, *, cache_bytes: int | None, timeout: float) -> None:
        self.url = url
        self.shards = tuple(shards)
        self.folder = folder
        self.digest = digest
        self.cache_bytes = cache_bytes
        self.timeout = timeout
        self.sizes = np.array([shard.rows for shard in shards], dtype=np.int64)
        self.ends = np.cumsum(self.sizes)
        self._opened: tuple[int, NDArray[np.uint8], NDArray[np.uint32]] | None = None

    def __len__(self) -> int:
        return int(self.ends[-1])

    def name(self, index: int) -> str:
        shard, place = self._place(index)
        return f"{self.shards[shard].name}, row {place}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The row as it was written; nothing is drawn.

        Raises:
            OSError: when its shard cannot be had.
        """
        shard, place = self._place(index)
        if self._opened is None or self._opened[0] != shard:
            content = self._open(shard)
            self._opened = (shard, content, offsets_of(content, self.shards[shard], self.folder))
        _, content, offsets = self._opened
        return from_bytes(content[offsets[place] + 4 : offsets[place + 1]].tobytes(), self.name(index))  # 4: litdata's length of the only leaf

    def _place(self, index: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self.ends, index, side="right"))
        return shard, index - int(self.ends[shard] - self.sizes[shard])

    def _open(self, shard: int) -> NDArray[np.uint8]:
        file = self.folder / self.shards[shard].name
        for _ in range(TURNS):
            if self.url.startswith(REMOTE):
                fetch(f"{self.url}/{file.name}", file, self.timeout)
            try:
                content = np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.zeros(0, np.uint8)
            except FileNotFoundError:
                if self.url.startswith(REMOTE):
                    continue  # another process made room just now
                raise FileNotFoundError(f"{file} is in {self.folder / INDEX}, but not in the folder: copy or write the shards again") from None
            if self.url.startswith(REMOTE) and self.cache_bytes is not None:
                with suppress(FileNotFoundError):
                    os.utime(file)
                make_room(self.folder, file, self.cache_bytes)
            check_sum(content, self.shards[shard], self.folder)
            return content
        raise OSError(f"{file} was removed {TURNS} times before it could be opened: raise cache_bytes={self.cache_bytes}")

    def __getstate__(self) -> dict[str, object]:
        """Without the open shard, which would be copied."""
        return vars(self) | {"_opened": None}


def shards_of(index: bytes, url: str, sums: Mapping[str, str]) -> list[Shard]:
    """The shards that a list names, each with its sum if it has one.

    Raises:
        ValueError: when they were not written by `write_shards`. litdata's shards may hold pickle, which runs code: those are not read.
    """
    found = parsed(index, f"{url}/{INDEX}", ("config", "chunks"))
    config = found["config"]
    if config["data_format"] != ["bytes"] or config["compression"] is not None or config["encryption"] is not None:
        raise ValueError(f"{url}/{INDEX}: the shards hold {config['data_format']}, and only rows of write_shards are read: write them with it")
    shards = [Shard(chunk["filename"], int(chunk["chunk_size"]), int(chunk["chunk_bytes"]), sums.get(chunk["filename"])) for chunk in found["chunks"]]
    for shard in shards:
        if not re.fullmatch(r"[\w-]+\.bin", shard.name) or shard.rows < 1:
            raise ValueError(f"{url}/{INDEX}: {shard.name!r} with {shard.rows} rows is no shard of this folder: write the shards again")
    return shards


def parsed(content: bytes, url: str, keys: Sequence[str]) -> dict[str, Any]:
    """What a JSON file says.

    Raises:
        ValueError: when it is another kind of file.
    """
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{url} is not JSON ({error}): write the shards again") from error
    if not isinstance(found, dict) or not set(keys) <= found.keys():
        raise ValueError(f"{url} does not say {', '.join(keys)}: write the shards with write_shards")
    return found


def offsets_of(content: NDArray[np.uint8], shard: Shard, folder: Path) -> NDArray[np.uint32]:
    """Where the rows of a shard start and end: after their number comes a place for each, and one for the end.

    Raises:
        OSError: when the file is not what the list of shards says.
    """
    first = 4 * (shard.rows + 2)
    if len(content) == shard.bytes and len(content) >= first:
        numbers = content[:first].view(np.uint32)
        offsets = numbers[1:]
        if numbers[0] == shard.rows and offsets[0] == first and offsets[-1] == len(content) and (np.diff(offsets.astype(np.int64)) > 4).all():
            return offsets
    raise OSError(
        f"{folder / shard.name} has {len(content)} bytes and is not the shard of {shard.bytes} bytes with {shard.rows} rows that was written: "
        "delete it to fetch it again, or write the shards again"
    )


def check_sum(content: NDArray[np.uint8], shard: Shard, folder: Path) -> None:
    """Compares a shard with the sum that was written beside it.

    Raises:
        OSError: when it is another.
    """
    if shard.sha256 is not None and len(content) == shard.bytes and hashlib.sha256(content).hexdigest() != shard.sha256:  # type: ignore[arg-type]
        raise OSError(f"{folder / shard.name} is damaged: its SHA-256 is not the one in {DATASET}: delete it to fetch it again, or write it again")


def make_room(folder: Path, keep: Path, most: int) -> None:
    """Removes the shards that were opened longest ago, until the rest have no more bytes than allowed; one stays in any case."""
    files = []
    for file in folder.glob("*.bin"):
        with suppress(FileNotFoundError):
            status = file.stat()
            files.append((status.st_mtime_ns, status.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total > most and file != keep:
            file.unlink(missing_ok=True)  # who has it open keeps it
            total -= size


def read(url: str, timeout: float) -> bytes:
    """The content of a small file.

    Raises:
        OSError: when it cannot be had.
    """
    if not url.startswith(REMOTE):
        if not Path(url).is_file():
            raise FileNotFoundError(f"{Path(url).resolve()} not found: give the folder that write_shards wrote")
        return Path(url).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, url.rsplit("/", 1)[1])
        fetch(url, file, timeout)
        return file.read_bytes()


def fetch(url: str, file: Path, timeout: float) -> None:
    """Makes sure that a remote file is there, whole. Of several processes one fetches it, and the others wait.

    Raises:
        OSError: when it cannot be had, or not in time.
    """
    started = time.monotonic()
    file.parent.mkdir(parents=True, exist_ok=True)
    while not file.exists():
        try:
            downloader = litdata("litdata.streaming.downloader").get_downloader(url.rsplit("/", 1)[0], str(file.parent), [])
            downloader.download_file(url, str(file))
        except ModuleNotFoundError:
            raise
        except Exception as error:  # each store has errors of its own
            raise OSError(f"{url} cannot be fetched ({type(error).__name__}: {error}): check the address and the credentials") from error
        if not file.exists():
            if time.monotonic() - started > timeout:
                raise OSError(f"{url} has not arrived in {timeout:g} s: check the connection, or raise timeout")
            time.sleep(0.05)


def litdata(module: str) -> Any:
    """A module of litdata.

    Raises:
        ModuleNotFoundError: saying how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"shards need litdata ({error}): pip install perceiver-lightning[streaming]") from error
