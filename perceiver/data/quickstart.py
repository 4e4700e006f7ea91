"""The quickstart dataset: a handwritten digit, a spoken digit, and a question about them in plain bytes.

Four kinds of question (what is written, what is spoken, what is the sum, are they the same) and one answer out of 21.
The question decides which modality counts, so no modality alone can answer. The folder's README says how it was made.
"""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from perceiver.data.augment import jitter_picture, jitter_sound
from perceiver.data.batch import collate
from perceiver.tokenizer import encode

SAMPLE_RATE = 8_000  # Hz
KINDS = ("written", "spoken", "sum", "same")
ANSWERS = (*(str(n) for n in range(19)), "no", "yes")
SPLITS = ("train", "val", "test")


class Split:
    """Pictures, recordings and wordings of one split, in memory.

    Args:
        root: the dataset's folder.
        name: train, val or test.

    Raises:
        FileNotFoundError: when a file of the dataset is not there.
    """

    def __init__(self, root: Path, name: str) -> None:
        arrays = np.load(root / "digits.npz", allow_pickle=False)
        mine = arrays["split"] == SPLITS.index(name)
        images, digits = arrays["images"][mine], arrays["digits"][mine]
        self.images = torch.from_numpy(images).float()[:, None] / 16
        self.images_of = [np.flatnonzero(digits == d) for d in range(10)]
        with open(root / "clips.csv", newline="") as file:
            table = [row for row in csv.DictReader(file) if row["split"] == name]
        files = {row["file"]: torch.from_numpy(soundfile.read(root / row["file"], dtype="float32")[0]) for row in table}
        self.clips = [files[row["file"]][None, int(row["start"]) : int(row["stop"])] for row in table]
        self.voices = [row["voice"] for row in table]
        spoken = np.array([int(row["digit"]) for row in table])
        self.clips_of = [np.flatnonzero(spoken == d) for d in range(10)]
        self.questions: dict[str, list[str]] = json.loads((root / "questions.json").read_text())


def answer(kind: str, written: int, spoken: int) -> str:
    """The right answer to a kind of question."""
    return {"written": str(written), "spoken": str(spoken), "sum": str(written + spoken), "same": "yes" if written == spoken else "no"}[kind]


class Questions(Dataset[dict[str, Any]]):
    """Rows of a split: row k is a function of the seed and k alone, and there is no last one.

    Kinds of question take turns. Digits, picture, recording and wording are drawn; for "are they the same" half of
    the rows are.

    Args:
        split: where pictures and recordings come from.
        seed: another seed, other rows.
        augment: jitters pictures and sounds, for training.
    """

    def __init__(self, split: Split, seed: int, augment: bool) -> None:
        self.split = split
        self.seed = seed
        self.augment = augment

    def __getitem__(self, index: int) -> dict[str, Any]:
        draw = np.random.default_rng((self.seed, index))
        kind = KINDS[index % len(KINDS)]
        written, spoken = (int(d) for d in draw.integers(10, size=2))
        if kind == "same" and draw.random() < 0.5:
            spoken = written
        image = self.split.images[draw.choice(self.split.images_of[written])]
        clip = self.split.clips[draw.choice(self.split.clips_of[spoken])]
        question = self.split.questions[kind][draw.integers(len(self.split.questions[kind]))]
        if self.augment:
            image, clip = jitter_picture(image, draw), jitter_sound(clip, draw)
        return {
            "image": image,
            "audio": clip,
            "text": torch.tensor(encode(question)),
            "target": ANSWERS.index(answer(kind, written, spoken)),
            "dataset": KINDS.index(kind),
        }
