"""Sharding: writes a dataset as shards, decoded once, for `perceiver.data.mixture.shards` to read from anywhere."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from perceiver.data.mixture.shards import DATASET, litdata
from perceiver.data.permutation import key_of, permute
from perceiver.data.row_bytes import to_bytes
from perceiver.data.rows import BadSample, Rows
from perceiver.data.source import SPLITS, Source, Split

log = logging.getLogger(__name__)


def write_shards(
    source: Source,
    folder: str | Path,
    *,
    splits: Sequence[Split] = SPLITS,
    seed: int = 0,
    num_workers: int = 0,
    chunk_bytes: int = 64_000_000,
    bad_samples: float = 0.0,
) -> None:
    """Writes a dataset as shards into a folder, which can then be copied to an object store as it is.

    Training rows are shuffled on the way, since they are later read shard by shard. Whatever the dataset draws at random (crops,
    masks) is drawn once: each pass over the shards finds the same. What is to differ from pass to pass belongs into `augment`.

    Args:
        source: the dataset.
        folder: where they go; it must not exist. It appears when all is written.
        splits: those that are written.
        seed: of the order of the training rows, and of what they draw.
        num_workers: processes that decode.
        chunk_bytes: of a shard, about. A reader fetches whole shards, and shuffles within one.
        bad_samples: share of a split's rows that may be undecodable; those are left out, logged, and listed in `dataset.json`.

    Raises:
        ValueError: when more are, when a row holds what a shard cannot, or when an argument is out of range.
        FileExistsError: when the folder is there already.
    """
    folder = Path(folder)
    if not splits or not 1 <= chunk_bytes <= 2**31 or not 0 <= bad_samples < 1:
        given = f"splits={list(splits)}, chunk_bytes={chunk_bytes}, bad_samples={bad_samples}"
        raise ValueError(f"{given}: give at least one split, 1 to 2^31 bytes, and a share in [0, 1)")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("write_shards was called by several ranks: call it in one process, before training")
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: delete it, or write to another folder")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    source.prepare()
    description: dict[str, Any] = {
        "entries": list(source.entries),
        "ragged": list(source.ragged),
        "classes": list(source.classes),
        "task": dict(source.task),
        "splits": {},
    }
    for split in splits:
        encoded = Encoded(source.rows(split), split, seed)
        left_out = write_split(encoded, part / split, num_workers=num_workers, chunk_bytes=chunk_bytes, most_bad=bad_samples)
        sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((part / split).glob("*.bin"))}
        description["splits"][split] = {"left_out": left_out, "sha256": sums}
    (part / DATASET).write_text(json.dumps(description, indent=1) + "\n")
    part.rename(folder)


def write_split(encoded: "Encoded", folder: Path, *, num_workers: int, chunk_bytes: int, most_bad: float) -> list[list[str]]:
    """Writes the rows of one split, and says which were left out and why.

    Raises:
        ValueError: when too many had to be, or there are none.
    """
    loader = DataLoader(encoded, batch_size=None, sampler=encoded.order(), collate_fn=as_it_is, num_workers=num_workers)
    writer = litdata("litdata.streaming.writer").BinaryWriter(str(folder), chunk_bytes=chunk_bytes)
    written, left_out, most = 0, [], most_bad * len(encoded.rows)
    for data, sample, reason in loader:
        if data is None:
            left_out.append([sample, reason])
            log.warning("%s/%s cannot be read and is left out: %s", encoded.split, sample, reason)
            if len(left_out) > most:
                raise ValueError(
                    f"{len(left_out)} of {len(encoded.rows)} rows of the {encoded.split} split cannot be read, more than bad_samples={most_bad:g} "
                    f"of them, the last one {sample} ({reason}). Mend or remove them, or raise bad_samples"
                )
            continue
        writer[written] = data
        written += 1
    if not written:  # litdata would wait for ever for the list of the shards that there are not
        raise ValueError(f"the {encoded.split} split has no rows that could be written: leave it out of `splits`, or check the dataset")
    writer.done()
    writer.merge()
    return left_out


class Encoded(Dataset[tuple[bytes | None, str, str]]):
    """Rows as bytes, each with its id; in place of one that cannot be decoded, the reason.

    Args:
        rows: of the split.
        split: evaluation rows keep their order, and draw by their numbers alone, as where they are read without shards.
        seed: of the order of training rows, and of what they draw.
    """

    def __init__(self, rows: Rows, split: Split, seed: int) -> None:
        self.rows = rows
        self.split = split
        self.seed = seed if split == "train" else 0

    def order(self) -> list[int]:
        """The rows in the order in which they are written."""
        numbers = np.arange(len(self.rows))
        return (permute(numbers, len(self.rows), key_of(self.seed)) if self.split == "train" else numbers).tolist()

    def __getitem__(self, number: int) -> tuple[bytes | None, str, str]:
        try:
            row = self.rows.row(number, np.random.default_rng((self.seed, number)))
        except BadSample as error:
            return None, error.sample, error.reason
        return to_bytes(row, self.rows.name(number)), self.rows.name(number), ""


def as_it_is(item: Any) -> Any:
    """The item: nothing is put together here."""
    return item
