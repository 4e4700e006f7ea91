"""Rows a second of each loader on one core, beside what one core trains on: where is the bottleneck?

    python benchmarks/loaders.py [--seconds 2] [--json FILE]

Each loader is asked for rows in shuffled order, augmented as in its recipe, until the time is over; the median of five such rounds counts.
Files of folders are made on the spot: JPEG 500 x 375, one second of sound at 16 kHz, clips of one second out of `video/` where it is there. The
step is forward, backward and AdamW of the model of `configs/mnist.yaml` with 64 rows, the smallest of the recipes.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from rich.console import Console
from rich.table import Table

from perceiver import MultitaskPerceiver
from perceiver.data import (
    MNIST,
    AudioFolder,
    Banking77,
    ByteNoise,
    Cached,
    DigitSums,
    Frames,
    FreeSpokenDigits,
    ImageFolder,
    JitterSound,
    MixedDataModule,
    MovePicture,
    Sound,
    Source,
    Stream,
    TinyShakespeare,
    VideoClips,
    WholeWords,
    WordDropout,
)
from perceiver.data.rows import Rows
from perceiver.data.source import PLACES, Split
from perceiver.tasks import Multitask
from perceiver.tasks.optim import adamw, param_groups

ROUNDS = 5
BATCH = 64
MOVE, JITTER = MovePicture(degrees=10, shift=0.06, scale=0.1), JitterSound(speed=0.15, max_samples=19_200)


def rows_per_second(stream: Stream, seconds: float) -> float:
    """Median over the rounds, of whole training batches of the mixture with this dataset alone."""
    stream.source.prepare()
    data = MixedDataModule({"data": stream}, batch_size=BATCH, num_workers=0, seed=0)
    batches, step, found = data.train_dataloader().batches, 0, []
    batches[0]
    for _ in range(ROUNDS):
        began, first = time.perf_counter(), step
        while (passed := time.perf_counter() - began) < seconds / ROUNDS or step == first:
            batches[step]
            step += 1
        found.append((step - first) * BATCH / passed)
    return median(found)


def training_rows_per_second(seconds: float) -> float:
    """Rows that one core trains on, with the model of `configs/mnist.yaml`."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(MultitaskPerceiver, "model")
    config = yaml.safe_load(Path("configs/mnist.yaml").read_text())["model"]["init_args"]["model"]
    model = parser.instantiate_classes(parser.parse_object({"model": config})).model
    task = Multitask(model, {"mnist": {"task": "classification", "num_classes": 10}})
    optimizer = adamw(param_groups(model, 0.05), 1e-3, "32-true")
    batch = {"image": torch.rand(BATCH, 1, 28, 28), "target": torch.arange(BATCH) % 10, "dataset": torch.zeros(BATCH, dtype=torch.long)}
    found = []
    for _ in range(ROUNDS):
        began, steps = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds / ROUNDS or not steps:
            task.train_loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        found.append(steps * BATCH / passed)
    return median(found)


def folder_of_pictures(root: Path) -> Path:
    """Forty photographs' worth of noise over a gradient, as JPEG."""
    draw = np.random.default_rng(0)
    for number in range(40):
        file = root / f"class{number % 2}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        smooth = np.linspace(0, 200, 375 * 500 * 3).reshape(375, 500, 3) + draw.normal(0, 12, (375, 500, 3))
        Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(file)
    return root


def folder_of_sounds(root: Path, ending: str) -> Path:
    """Forty seconds of noise, one a file."""
    draw = np.random.default_rng(0)
    for number in range(40):
        file = root / f"class{number % 2}" / f"{number}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, draw.normal(0, 0.1, 16_000).clip(-1, 1), 16_000)
    return root


def video_folder() -> Path:
    """Where the clips are.

    Raises:
        FileNotFoundError: when they are nowhere.
    """
    found = next((place / "video" for place in PLACES if next((place / "video").glob("*.mp4"), None)), None)
    if found is None:
        raise FileNotFoundError(f"no video/*.mp4 in {', '.join(map(str, PLACES))}")
    return found


def loaders(scratch: Path) -> Iterator[tuple[str, Callable[[], Stream]]]:
    """What is measured: a label, and what makes the stream."""
    yield "MNIST, in memory", lambda: Stream(MNIST())
    yield "MNIST, moved", lambda: Stream(MNIST(), augment=[MOVE])
    yield "spoken digits, in memory", lambda: Stream(FreeSpokenDigits())
    yield "spoken digits, jittered", lambda: Stream(FreeSpokenDigits(), augment=[JITTER])
    yield "digit sums, moved and jittered", lambda: Stream(DigitSums(MNIST(), FreeSpokenDigits()), augment=[MOVE, JITTER])
    yield "Banking77, in memory", lambda: Stream(Banking77())
    yield "Banking77, with noise", lambda: Stream(Banking77(), augment=[WordDropout(), ByteNoise()])
    yield "text files, 512 bytes, words masked", lambda: Stream(TinyShakespeare(length=512, mask=WholeWords()))
    yield "folder of JPEG 500 x 375, to 64 x 64", lambda: Stream(ImageFolder(folder_of_pictures(scratch / "jpg"), size=(64, 64)))
    pictures = ImageFolder(scratch / "jpg", size=(64, 64))
    yield "folder of JPEG 500 x 375, to 64 x 64, cached", lambda: Stream(Cached(pictures, scratch / "cached-jpg"))
    for ending in ("wav", "flac", "ogg", "mp3"):
        root = scratch / ending

        def sounds(root: Path = root, ending: str = ending, **options: int) -> Source:
            return AudioFolder(folder_of_sounds(root, ending), max_seconds=1.0, **{"sample_rate": 16_000, **options})

        yield f"folder of {ending.upper()}, 1 s", lambda sounds=sounds: Stream(sounds())
    yield "folder of WAV, 1 s, resampled to 8 kHz", lambda: Stream(sounds(scratch / "wav", "wav", sample_rate=8_000))
    yield "folder of MP3, 1 s, cached", lambda: Stream(Cached(sounds(scratch / "mp3", "mp3"), scratch / "cached-mp3"))
    sound, frames = Sound(16_000), Frames(4, (32, 32))

    def clips() -> Source:
        return Clips(video_folder(), "nasa*.mp4", seconds=1.0, frames=frames, sound=sound)

    yield "video, 1 s, 4 frames and sound", lambda: Stream(clips())
    yield "video, 1 s, 4 frames and sound, cached", lambda: Stream(Cached(clips(), scratch / "cached-video"))


class Clips(VideoClips):
    """Clips without a label, all of them in each split: what is learned from them does not matter here."""

    task = {"task": "classification", "num_classes": 2}

    def rows(self, split: Split) -> Rows:
        return super().rows("train")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="For each loader.")
    parser.add_argument("--json", type=Path, help="File for the figures.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {"training step": training_rows_per_second(2 * options.seconds)}
    with tempfile.TemporaryDirectory() as scratch:
        for label, make in loaders(Path(scratch)):
            try:
                results[label] = rows_per_second(make(), options.seconds)
            except (FileNotFoundError, ImportError) as error:
                Console().print(f"{label}: left out, {error}", markup=False, highlight=False)
    table = Table(
        "loader",
        "rows a second, one core",
        "times what one core trains on",
        title=f"One core trains on {results['training step']:,.0f} rows a second",
    )
    for label, rate in results.items():
        if label != "training step":
            table.add_row(label, f"{rate:,.0f}", f"{rate / results['training step']:.1f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
