"""There is nothing to learn from: a dataset without rows, a modality in none of them, texts and sounds of length 0."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from perceiver.data import AudioFolder, ImageFolder, Manifest, MixedDataModule, TextFiles, TextTable
from perceiver.data.columns import ImageColumn, TextColumn
from perceiver.data.mixture.datamodule import Stream
from perceiver.data.source import Source
from perceiver.softmax import attend
from tests.faults.processes import fit_words
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_modalities import model, outcome
from tests.faults.subjects.faulty_peers import trains_on_nothing
from tests.faults.subjects.faulty_runs import ended, error_in
from tests.toy_datasets import ToyImages

FAULT = "a dataset without rows, a modality in none of them, inputs of length 0"
EXPECTED = "an error before training, which names it; a model reads zeros from inputs of length 0"
NOT_APPLICABLE = {"accelerate": "the loop is the user's own"}


def ours(folder: Path) -> str:
    """By the command line, and each kind of dataset; attention without keys, and a model with inputs of length 0."""
    said = []
    for what, build in empty(folder):
        try:
            build()
        except (ValueError, OSError) as error:
            said.append(f"{what}: {error}")
        else:
            raise Fell(f"{what}: it was taken for good")
    done = ended("-m", "tests.faults.subjects.faulty_ours", "read", str(folder / "shards"), "write_shards")
    if not done.text.startswith("{") or not json.loads(done.text)["write_shards"]["said"]:
        raise Fell(f"writing shards of no rows: {done.said}")
    check_model()
    with Warm("faulty_ours") as act:
        for split in ("train", "val"):
            option = f"--data.init_args.datasets.images.source=tests.faults.subjects.faulty_ours.{split.title()}Empty"
            done = act(*fit_words(folder / split, option)[1:])
            if done.returncode != 2 or f"dataset 'images' has no rows in its {split} split" not in done.said:
                raise Fell(f"with an empty {split} split, exit code {done.returncode}: {done.said}")
            if (log := folder / split / "metrics.csv").exists() and "train/loss" in log.read_text():
                raise Fell(f"with an empty {split} split, it had made a step before it said so")
    return f"{error_in(done.text)}; and {len(said)} other datasets"


def empty(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Datasets that have nothing, or not all, and how a training opens them."""

    def opened(source: Source) -> Callable[[], Any]:
        return lambda: MixedDataModule({"toy": Stream(source)}, batch_size=6, num_workers=0).setup("fit")

    yield "no dataset", lambda: MixedDataModule({})
    yield "rows", opened(ToyImages(0))
    for kind in ("none", "class", "splits"):
        (folder / kind).mkdir()
    (folder / "class" / "a").mkdir()
    for split in ("train", "val", "test"):
        (folder / "splits" / split / "a").mkdir(parents=True)
    for kind in ("none", "class", "splits", "absent"):
        yield f"pictures, {kind}", opened(ImageFolder(folder / kind, size=(6, 15)))
        yield f"sounds, {kind}", opened(AudioFolder(folder / kind, sample_rate=50, max_seconds=1.3))
        yield f"texts, {kind}", opened(TextFiles(folder / kind, length=17))
    columns = {"image": ImageColumn((6, 15)), "text": TextColumn(17)}
    for name, lines in {
        "nothing": [],
        "a head alone": [("image", "text", "label")],
        "no picture": [("image", "text", "label"), *[("", f"text {index}", "ab"[index % 2]) for index in range(50)]],
    }.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(lines)
        yield f"a manifest with {name}", opened(Manifest(folder / f"{name}.csv", columns=columns))
        if name != "no picture":
            yield f"a table with {name}", opened(TextTable(folder / f"{name}.csv", max_bytes=17))


def check_model() -> None:
    """Lets queries read nothing, and a model sounds and texts of length 0."""
    q, k, v = (torch.randn(2, 3, number, 11) for number in (5, 0, 0))
    if (read := attend(q, k, v)).shape != q.shape or bool(read.any()):
        raise Fell("a query without keys reads something")
    built = model(pixels=False)
    pictures = {"image": torch.rand(2, 3, 36, 36)}
    silent = torch.tensor([0, 0])
    nothing = {"audio": torch.zeros(2, 1, 40), "audio_length": silent, "text": torch.zeros(2, 0, dtype=torch.long)}
    found, gradients = outcome(built, pictures | nothing)
    wanted, _ = outcome(built, pictures)
    if not torch.allclose(found, wanted, atol=1e-6) or not all(bool(one.isfinite().all()) for one in gradients.values()):
        raise Fell("inputs of length 0 change what a model says")
    alone, gradients = outcome(built, nothing)
    if not bool(alone.isfinite().all()) or not all(bool(one.isfinite().all()) for one in gradients.values()):
        raise Fell("a model that is given inputs of length 0 alone says NaN")


def lightning(folder: Path) -> str:
    """A dataset without rows, in a loader as it is by default; PyTorch itself refuses to shuffle nothing."""
    return trains_on_nothing("lightning", folder)


def transformers(folder: Path) -> str:
    """A dataset without rows, which the Trainer shuffles by default."""
    return trains_on_nothing("transformers", folder)
