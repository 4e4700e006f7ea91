"""The quickstart dataset: a handwritten digit, a spoken digit, and a question about them in plain bytes.

Four kinds of question (what is written, what is spoken, what is the sum, are they the same) and one answer out of 21.
The question decides which modality counts, so no modality alone can answer. The folder's README says how it was made.
"""

import csv
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from perceiver.data.augment import grain, jitter_sound, move_picture
from perceiver.data.batch import collate
from perceiver.data.mixture.loader import MixtureLoader, Steps, steps_done
from perceiver.tokenizer import encode

SAMPLE_RATE = 8_000  # Hz
KINDS = ("written", "spoken", "sum", "same")
ANSWERS = (*(str(n) for n in range(19)), "no", "yes")
SPLITS = ("train", "val", "test")
VAL_ROWS, TEST_ROWS = 800, 4_000

Augment = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


def pick(things: Sequence[Any], draw: np.random.Generator) -> Any:
    """One of them, each equally likely."""
    return things[int(draw.integers(len(things)))]


def jitter(image: Tensor, sound: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Small changes to both, that leave the digits readable and audible. Some pictures stay sharp, as in the test."""
    if draw.random() < 0.5:
        image = move_picture(image, draw)
    return grain(image, draw), jitter_sound(sound, draw)


class Split:
    """Pictures, recordings and wordings of one split, in memory.

    Args:
        root: the dataset's folder.
        name: train, val or test.

    Raises:
        FileNotFoundError: when a file of the dataset is not there.
        ValueError: when a recording is empty, or at another rate.
    """

    def __init__(self, root: Path, name: str) -> None:
        if missing := [file for file in ("digits.npz", "clips.csv", "questions.json", "speech") if not (root / file).exists()]:
            raise FileNotFoundError(
                f"the quickstart dataset is not whole: {', '.join(missing)} not found in {root.resolve()}. Run from the root of the repository, or "
                "give the folder with --data.init_args.root"
            )
        arrays = np.load(root / "digits.npz", allow_pickle=False)
        mine = arrays["split"] == SPLITS.index(name)
        images, digits = arrays["images"][mine], arrays["digits"][mine]
        self.images = torch.from_numpy(images).float()[:, None] / 16
        self.images_of = [np.flatnonzero(digits == d).tolist() for d in range(10)]
        with open(root / "clips.csv", newline="") as file:
            table = [row for row in csv.DictReader(file) if row["split"] == name]
        files = {file: read_sound(root / file) for file in dict.fromkeys(row["file"] for row in table)}
        for number, row in enumerate(table):
            if not 0 <= int(row["start"]) < int(row["stop"]) <= files[row["file"]].shape[-1]:
                raise ValueError(
                    f"{root / 'clips.csv'}, recording {number} of the split: there is nothing from sample {row['start']} to {row['stop']} of "
                    f"{row['file']}, which has {files[row['file']].shape[-1]} samples; build the dataset again"
                )
        self.clips = [files[row["file"]][:, int(row["start"]) : int(row["stop"])] for row in table]
        self.voices = [row["voice"] for row in table]
        spoken = np.array([int(row["digit"]) for row in table])
        self.clips_of = [np.flatnonzero(spoken == d).tolist() for d in range(10)]
        self.questions: dict[str, list[str]] = json.loads((root / "questions.json").read_text())


def read_sound(file: Path) -> Tensor:
    """The waveform of a file, (1, s).

    Raises:
        ValueError: when it is not mono, or not at 8 kHz.
    """
    wave, rate = soundfile.read(file, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE or wave.shape[1] != 1:
        raise ValueError(f"{file} is at {rate} Hz with {wave.shape[1]} channels, and must be at {SAMPLE_RATE} Hz with one: build the dataset again")
    return torch.from_numpy(wave.T.copy())


def answer(kind: str, written: int, spoken: int) -> str:
    """The right answer to a kind of question."""
    return {"written": str(written), "spoken": str(spoken), "sum": str(written + spoken), "same": "yes" if written == spoken else "no"}[kind]


class Questions(Dataset[dict[str, Any]]):
    """Rows of a split: row k is a function of the seed and k alone, and there is no last one.

    Kinds of question take turns. Digits, picture, recording and wording are drawn; asked whether they are the same, half
    of the pairs are.

    Args:
        split: where pictures and recordings come from.
        seed: another seed, other rows.
        turns: kinds of question, in the order of their turns; one that stands there twice comes twice as often.
        augment: changes the picture and the sound of a row, with the row's generator.
    """

    def __init__(self, split: Split, seed: int, *, turns: Sequence[str] = KINDS, augment: Augment | None = None) -> None:
        self.split = split
        self.seed = seed
        self.turns = tuple(turns)
        self.augment = augment

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.row(index, np.random.default_rng((self.seed, index)))

    def row(self, index: int, draw: np.random.Generator) -> dict[str, Any]:
        """A row whose chance comes from elsewhere; its number says the kind of question."""
        kind = self.turns[index % len(self.turns)]
        written, spoken = (int(d) for d in draw.integers(10, size=2))
        if kind == "same":
            spoken = written if draw.random() < 0.5 else (written + 1 + int(draw.integers(9))) % 10
        image = self.split.images[pick(self.split.images_of[written], draw)]
        sound = self.split.clips[pick(self.split.clips_of[spoken], draw)]
        question = pick(self.split.questions[kind], draw)
        if self.augment is not None:
            image, sound = self.augment(image, sound, draw)
        return {
            "image": image,
            "audio": sound,
            "text": torch.tensor(encode(question)),
            "target": ANSWERS.index(answer(kind, written, spoken)),
            "dataset": KINDS.index(kind),
        }


class QuestionBatches(Dataset[dict[str, Any]]):
    """The batch of each training step, rows one after another; no row comes twice.

    Args:
        rows: without end.
        batch_size: rows of a step, all ranks together.
        rank: whose rows these are.
        world_size: number of ranks.

    Raises:
        ValueError: when the batch cannot be shared equally among the ranks.
    """

    def __init__(self, rows: Questions, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size={batch_size} rows cannot be shared equally among {world_size} ranks: choose a multiple")
        self.rows = rows
        self.batch_size = batch_size
        self.mine = batch_size // world_size
        self.rank = rank

    def __getitem__(self, step: int) -> dict[str, Any]:
        first = step * self.batch_size + self.rank * self.mine
        return COLLATE([self.rows[number] for number in range(first, first + self.mine)])


class Quickstart(L.LightningDataModule):
    """Batches of the quickstart dataset: `image` (b, 1, 8, 8) in [0, 1], `audio` (b, 1, s) at 8 kHz, `text` (b, l) byte ids.

    Args:
        root: the folder `data/quickstart` of the repository.
        batch_size: rows in a training batch, all ranks together.
        steps_per_epoch: training batches between two validations; no row comes twice, in one epoch or the next, resumed or not.
        turns: kinds of question in training, in the order of their turns.
        val_rows: rows of validation, a quarter of each kind.
        test_rows: rows of the test, likewise.
        seed: of the training rows; that of the whole run when not given. Validation and test rows are always the same.
        num_workers: processes that prepare training batches.

    Raises:
        ValueError: when a number is not positive, or a kind of question unknown.
    """

    datasets = KINDS
    classes = ANSWERS
    modalities = ("image", "audio", "text")
    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        root: str = "data/quickstart",
        *,
        batch_size: int = 128,
        steps_per_epoch: int = 250,
        turns: Sequence[str] = KINDS,
        val_rows: int = VAL_ROWS,
        test_rows: int = TEST_ROWS,
        seed: int | None = None,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("steps_per_epoch", steps_per_epoch), ("val_rows", val_rows), ("test_rows", test_rows)):
            if value < 1:
                raise ValueError(f"{name}={value}: give at least 1")
        if not turns or not set(turns) <= set(KINDS):
            raise ValueError(f"turns={list(turns)}: name at least one kind of question, out of {', '.join(KINDS)}")
        self.root = Path(root)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.turns = tuple(turns)
        self.val_rows = val_rows
        self.test_rows = test_rows
        self.seed = torch.initial_seed() if seed is None else seed
        self.num_workers = num_workers
        self._splits: dict[str, Split] = {}
        self._loaders: list[MixtureLoader] = []

    def split(self, name: str) -> Split:
        """Pictures and recordings of a split; read once.

        Raises:
            FileNotFoundError: when the dataset is not there.
        """
        if name not in self._splits:
            self._splits[name] = Split(self.root, name)
        return self._splits[name]

    def train_dataloader(self) -> MixtureLoader:
        """Augmented rows, without end, from where training stands."""
        rows = Questions(self.split("train"), self.seed, turns=self.turns, augment=jitter)
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        batches = QuestionBatches(rows, self.batch_size, rank=rank, world_size=world_size)
        loader = MixtureLoader(batches, Steps(partial(steps_done, self), self.steps_per_epoch), num_workers=self.num_workers, timeout=300.0)
        self._loaders.append(loader)
        return loader

    def names(self, step: int) -> list[str]:
        """The rows that this rank takes at a step of training, for messages."""
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        mine = self.batch_size // world_size
        first = step * self.batch_size + rank * mine
        return [f"row {number} (asked for {self.turns[number % len(self.turns)]})" for number in range(first, first + mine)]

    def teardown(self, stage: str) -> None:
        """Ends the data workers of a stage."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Voices and pictures that are neither in training nor in the test."""
        return self._fixed("val", self.val_rows)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Voices and pictures that training never met."""
        return self._fixed("test", self.test_rows)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test rows."""
        return self.test_dataloader()

    def _fixed(self, name: str, rows: int) -> DataLoader[dict[str, Any]]:
        return DataLoader(Questions(self.split(name), SPLITS.index(name)), batch_size=200, sampler=range(rows), collate_fn=COLLATE)


COLLATE = partial(collate, modalities=Quickstart.modalities, ragged=("audio", "text"))
