"""The quickstart's rows as a source: the same rows, pictures of the size that is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from perceiver.data import MixedDataModule, QuickstartQuestions, Stream
from perceiver.data.quickstart import ANSWERS, Quickstart

ROOT = str(Path(__file__).parents[2] / "data/quickstart")


def test_rows_of_the_test_are_those_of_the_quickstart_whatever_the_generator():
    rows = QuickstartQuestions(ROOT).rows("test")
    (batch,) = (batch for batch, _ in zip(Quickstart(ROOT).test_dataloader(), range(1), strict=False))
    assert len(rows) == 4_000
    for index in (0, 3, 199):
        row = rows.row(index, np.random.default_rng(11 + index))
        assert torch.equal(row["image"], batch["image"][index]) and row["target"] == batch["target"][index]
        assert torch.equal(row["text"], batch["text"][index, : len(row["text"])])


def test_a_training_row_is_a_function_of_its_number_and_the_generator():
    rows = QuickstartQuestions(ROOT).rows("train")
    first, again, other = (rows.row(5, np.random.default_rng(seed)) for seed in (7, 7, 13))
    assert torch.equal(first["audio"], again["audio"]) and first["target"] == again["target"]
    assert first["audio"].shape != other["audio"].shape or not torch.equal(first["audio"], other["audio"])


def test_pictures_are_stretched_and_nothing_else_changes():
    small, large = (QuickstartQuestions(ROOT, size=size).rows("val").row(2, np.random.default_rng(0)) for size in ((8, 8), (28, 23)))
    assert large["image"].shape == (1, 28, 23) and small["image"].shape == (1, 8, 8)
    assert large["image"].mean().item() == pytest.approx(small["image"].mean().item(), rel=0.05)
    assert torch.equal(small["audio"], large["audio"]) and small["target"] == large["target"]


def test_it_is_one_dataset_of_a_mixture():
    data = MixedDataModule({"questions": Stream(QuickstartQuestions(ROOT, size=(13, 11)))}, batch_size=5, num_workers=0, seed=3)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert data.tasks == {"questions": {"task": "classification", "num_classes": len(ANSWERS)}}
    assert batch["image"].shape[1:] == (1, 13, 11) and {"audio_length", "text_length", "target", "dataset"} <= set(batch)


@pytest.mark.parametrize("options", [{"size": (0, 8)}, {"size": (8,)}, {"train_rows": 0}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match="give rows and columns of pixels, and at least 1 row"):
        QuickstartQuestions(ROOT, **options)
