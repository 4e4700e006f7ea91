"""A list of the files of a dataset, or of a checkpoint, names one outside of its folder."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from perceiver import checkpoints
from perceiver.checkpoints.manifest import MANIFEST, checksum, sum_of
from perceiver.data import Manifest
from perceiver.data.columns import AudioColumn, Column, ImageColumn
from perceiver.data.mixture.sharding import write_shards
from perceiver.data.mixture.shards import INDEX, Shards
from tests.faults.scoreboard import Fell
from tests.faults.subjects.faulty_files import wav
from tests.toy_datasets import ToyImages

FAULT = "an index that names a file outside of its folder, by .., an absolute path, or a link"
EXPECTED = "refused"
NOT_APPLICABLE = dict.fromkeys(("lightning", "transformers", "accelerate"), "it reads no index of files")


def ours(folder: Path) -> str:
    """The list of shards, a manifest of samples, and that of a checkpoint. The file that they name is there, and right."""
    said = [refused(what, read) for what, read in chain(shards(folder), samples(folder), checkpoint(folder))]  # each as soon as its index is written
    return f"{len(said)} refused, the first: {said[0]}"


def refused(what: str, read: Callable[[], Any]) -> str:
    """What is said when a file is refused."""
    try:
        read()
    except ValueError as error:
        return str(error)
    raise Fell(f"{what} was taken for good")


def shards(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Shards with one of them elsewhere."""
    write_shards(ToyImages(), folder / "shards", splits=("train",))
    list_of = folder / "shards" / "train" / INDEX
    right = json.loads(list_of.read_text())
    name = right["chunks"][0]["filename"]
    shutil.copy(list_of.parent / name, folder / name)

    def read() -> None:
        Shards(str(folder / "shards")).rows("train").row(0, np.random.default_rng(0))

    read()
    for path in (f"../../{name}", str(folder / name), f"./../../{name}", f"..\\..\\{name}", f"{name}/../../../{name}", "", "."):
        right["chunks"][0]["filename"] = path
        list_of.write_text(json.dumps(right))
        yield f"a shard {path!r}", read


def samples(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A manifest with a sample elsewhere."""
    place = folder / "samples"
    place.mkdir()
    for file in (folder / "1.wav", place / "1.wav"):
        file.write_bytes(wav(bytes(2_000)))
    (place / "linked.wav").symlink_to(folder / "1.wav")
    (place / "up").symlink_to(folder)

    def read(sound: str, picture: str = "") -> None:
        lines = [("audio", "image", "label", "split"), ("1.wav", "", "a", "train"), (sound, picture, "a", "train")]
        with open(place / "list.csv", "w", newline="") as file:
            csv.writer(file).writerows(lines)
        columns: dict[str, Column] = {"audio": AudioColumn(8_000, 1.0)}
        if picture:
            columns["image"] = ImageColumn((3, 5))
        Manifest(place / "list.csv", columns=columns).rows("train").row(1, np.random.default_rng(0))

    read("1.wav")
    for cell in ("../1.wav", str(folder / "1.wav"), "./../1.wav", "linked.wav", "up/1.wav", "up/samples/1.wav"):
        yield f"a sound {cell!r}", lambda cell=cell: read(cell)
    yield "a picture '../1.png'", lambda: read("", "../1.png")


def checkpoint(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A checkpoint with a file elsewhere, whose manifest is right otherwise."""
    place = folder / "toy.ckpt"
    checkpoints.save({"state_dict": {}, "global_step": 3}, place)
    content = json.loads((place / MANIFEST).read_text())
    content.pop("sha256")
    name = min(content["files"])
    shutil.copy(place / name, folder / name)
    for path in (f"../{name}", str(folder / name), f"./../{name}", "..", "."):
        beside = {path: {"bytes": (folder / name).stat().st_size, "sha256": checksum(folder / name)}}
        changed = content | {"files": content["files"] | beside}
        (place / MANIFEST).write_text(json.dumps(changed | {"sha256": sum_of(changed)}))
        yield f"a file {path!r} of a checkpoint", lambda: checkpoints.read(place)
    (place / MANIFEST).write_text(json.dumps(content | {"sha256": sum_of(content)}))
    checkpoints.read(place)
    (place / name).unlink()
    (place / name).symlink_to(folder / name)
    yield f"a link {name!r} of a checkpoint", lambda: checkpoints.read(place)
