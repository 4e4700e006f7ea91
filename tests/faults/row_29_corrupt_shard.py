"""A shard of a dataset is not what was written: cut off, garbled, of zeros, missing, or with one bit that was flipped."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from perceiver.data.mixture.sharding import write_shards
from perceiver.data.mixture.shards import Shards
from tests.faults.processes import ROOT
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_runs import ended
from tests.toy_datasets import ToyImages

FAULT = "a shard that is cut off, garbled, missing, or has a flipped bit"
EXPECTED = "an error in the training process, which names the shard"
NOT_APPLICABLE = dict.fromkeys(("lightning", "transformers", "accelerate"), "it reads no shards")

FLIPS = 40  # bits, each in a shard of its own


def ours(folder: Path) -> str:
    """Each row of the shards is read; and a training on them ends, without and with a data worker."""
    write_shards(ToyImages(), folder / "right", chunk_bytes=4_000)
    right = content(folder / "right")
    silent, unnamed, said = [], [], ""
    for what, spoil in faults(folder / "right"):
        place = folder / "spoiled"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "right", place)
        shard = spoil(place / "train")
        try:
            if not same(content(place), right):
                silent.append(what)
        except (OSError, ValueError) as error:
            if shard not in str(error):
                unnamed.append(f"{what}: {error}")
    if silent or unnamed:
        raise Fell(f"{len(silent)} are read as if they were right: {', '.join(silent[:3])}; {len(unnamed)} are not named: {', '.join(unnamed[:3])}")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(streaming(folder / "spoiled")))
    cut_off(folder / "spoiled" / "train")
    with Warm("faulty_ours") as act:
        for done in (
            act("fit", "-c", config, "--run_dir", folder / "alone"),
            ended(*words(config, folder / "worker"), "--data.init_args.num_workers=1"),
        ):
            if done.returncode != 2 or ".bin" not in done.said:
                raise Fell(f"a training ended with exit code {done.returncode}: {done.said}")
            said = done.said
    return said


def words(config: Path, run: Path) -> tuple[str, ...]:
    """Those of a training."""
    return "train.py", "fit", "-c", str(config), "--run_dir", str(run)


def content(place: Path) -> list[dict[str, Any]]:
    """All training rows of a dataset in shards."""
    rows = Shards(str(place)).rows("train")
    return [rows.row(index, np.random.default_rng(0)) for index in range(len(rows))]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """Whether rows are the same."""
    pairs = zip(found, wanted, strict=True)
    return all(a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a) for a, b in pairs)


def faults(right: Path) -> Iterator[tuple[str, Callable[[Path], str]]]:
    """What is done to a shard in a folder; the name of the shard comes back."""
    yield "cut off", cut_off
    yield "missing", missing
    yield "empty", lambda folder: written(folder, b"")
    yield "zeros", lambda folder: written(folder, bytes(first(folder).stat().st_size))
    yield "noise", lambda folder: written(folder, np.random.default_rng(1).bytes(first(folder).stat().st_size))
    size = first(right / "train").stat().st_size
    for number, place in enumerate(np.random.default_rng(2).permutation(size)[:FLIPS].tolist()):
        yield f"bit {number % 8} of byte {place}", lambda folder, number=number, place=place: flipped(folder, place, number % 8)


def first(folder: Path) -> Path:
    """The first shard."""
    return min(folder.glob("*.bin"))


def cut_off(folder: Path) -> str:
    """Half of the first shard is gone."""
    return written(folder, first(folder).read_bytes()[: first(folder).stat().st_size // 2])


def missing(folder: Path) -> str:
    """The first shard is gone."""
    shard = first(folder)
    shard.unlink()
    return shard.name


def flipped(folder: Path, place: int, bit: int) -> str:
    """One bit of the first shard is another one."""
    data = bytearray(first(folder).read_bytes())
    data[place] ^= 1 << bit
    return written(folder, bytes(data))


def written(folder: Path, data: bytes) -> str:
    """Other content in the first shard."""
    shard = first(folder)
    shard.write_bytes(data)
    return shard.name


def streaming(place: Path) -> dict[str, Any]:
    """The configuration of a training on shards: that of the toy mixture, on its pictures alone."""
    config = yaml.safe_load((ROOT / "tests" / "toy_mixture.yaml").read_text())
    source = {"class_path": "perceiver.data.mixture.shards.Shards", "init_args": {"url": str(place)}}
    config["data"] = {
        "class_path": "perceiver.data.mixture.streaming.StreamingMixture",
        "init_args": config["data"]["init_args"] | {"datasets": {"images": {"source": source}}},
    }
    return json.loads(json.dumps(config))
