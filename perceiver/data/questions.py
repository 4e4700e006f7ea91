"""The quickstart dataset beside others: its rows as a source, for mixtures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.nn import functional as F

from perceiver.data.quickstart import ANSWERS, TEST_ROWS, VAL_ROWS, Questions
from perceiver.data.quickstart import Split as Digits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import SPLITS, Source, Split


class QuickstartQuestions(Source):
    """Rows of `perceiver.data.Quickstart`: a written digit, a spoken one, and a question; 21 answers.

    Rows of validation and test are the same ones. Training rows are drawn; augmentation is the mixture's.

    Args:
        root: the folder `data/quickstart` of the repository.
        size: rows and columns that the pictures of 8 x 8 are stretched to.
        train_rows: rows that make a pass.

    Raises:
        ValueError: when a size or the number of rows is not positive.
    """

    entries = ("image", "audio", "text")
    ragged = ("audio", "text")
    classes = ANSWERS

    def __init__(self, root: str | Path = "data/quickstart", *, size: Sequence[int] = (8, 8), train_rows: int = 20_000) -> None:
        if train_rows < 1 or len(size) != 2 or min(size) < 1:
            raise ValueError(f"size={list(size)} and train_rows={train_rows}: give rows and columns of pixels, and at least 1 row")
        self.root = Path(root)
        self.size = tuple(size)
        self.train_rows = train_rows

    def rows(self, split: Split) -> Rows:
        """The rows of a split.

        Raises:
            FileNotFoundError: when the dataset is not whole.
        """
        count = {"train": self.train_rows, "val": VAL_ROWS, "test": TEST_ROWS}[split]
        return QuestionRows(Questions(Digits(self.root, split), SPLITS.index(split)), count, self.size, fixed=split != "train")


class QuestionRows(Rows):
    """Rows of one split.

    Args:
        questions: draws them.
        count: how many make a pass.
        size: of the pictures.
        fixed: whether a row is the same each time.
    """

    def __init__(self, questions: Questions, count: int, size: tuple[int, ...], *, fixed: bool) -> None:
        self.questions = questions
        self.count = count
        self.size = size
        self.fixed = fixed

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """The row's number in its split."""
        return f"question {index} of {SPLITS[self.questions.seed]}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """Picture (1, y, x) in [0, 1], sound (1, s) at 8 kHz, question (l,), and the number of the answer."""
        found = self.questions[index] if self.fixed else self.questions.row(index, draw)
        image = found["image"]
        if self.size != tuple(image.shape[1:]):
            image = F.interpolate(image[None], size=self.size, mode="bilinear", align_corners=False)[0]
        return {key: found[key] for key in ("audio", "text", "target")} | {"image": image}
