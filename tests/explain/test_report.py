"""Tables, remarks and samples of a report: known answers on results and models made for the purpose."""

import io

import lightning as L
import pytest
import torch
from builders import CLASSES, DIM, NAMES, compact_batch, presence_table, raw_entries, small_encoder, small_perceiver, three_adapters, whole_batch
from rich.console import Console
from toy_datasets import toy_mixture

from perceiver import Decoder, MultitaskPerceiver
from perceiver.explain import ModalityReport, remarks, tables, without
from perceiver.explain.examples import gather
from perceiver.explain.samples import samples
from perceiver.explain.subject import Subject
from perceiver.explain.views import map_of, played, rounded, shrunk, visible
from perceiver.tasks import Classification, Multitask

DATASETS = ("written", "spoken")


def results(**changes: float) -> dict[str, float]:
    """A model that needs the picture for `written` and not for `spoken`, and looks at it accordingly."""
    return {
        "test/accuracy/written": 0.97,
        "test/accuracy/spoken": 0.96,
        "test/accuracy_without_image/written": 0.11,
        "test/accuracy_without_image/spoken": 0.95,
        "test/baseline_mean_pool/written": 0.53,
        "test/baseline_mean_pool/spoken": 0.59,
        "test/mass_image/written": 0.61,
        "test/mass_image/spoken": 0.13,
        "test/token_share_image/written": 0.29,
    } | {key.replace("__", "/"): value for key, value in changes.items()}


def test_without_takes_the_entry_away_and_says_so():
    batch = {"image": torch.ones(3, 2), "audio": torch.ones(2, 5), "audio_length": torch.tensor([5, 4]), "target": torch.arange(3)}
    batch["audio_present"] = torch.tensor([True, False, True])
    rest = without(batch, "audio")
    assert set(rest) == {"image", "target", "audio_present"} and not rest["audio_present"].any()
    assert batch["audio_present"].any()  # the batch itself is left alone
    assert not without(batch, "image")["image_present"].any()
    with pytest.raises(ValueError, match="'smell' cannot be taken away"):
        without(batch, "smell")


def test_the_tables_hold_every_result():
    file = io.StringIO()
    for table in tables(results(), DATASETS):
        Console(file=file, width=100).print(table)
    for number in ("97.0", "96.0", "11.0", "95.0", "53.0", "59.0", "61.0", "13.0", "29.0"):
        assert number in file.getvalue()


def test_a_mass_that_moves_with_what_the_modality_is_worth_is_said_to():
    (said,) = remarks(results(), DATASETS)
    assert "higher, too (1 of 1 comparisons)" in said


def test_a_modality_that_one_dataset_alone_can_do_without_is_compared_with_nothing():
    alone = {key: value for key, value in results().items() if key != "test/accuracy_without_image/spoken"}
    (said,) = remarks(alone, DATASETS)
    assert said.startswith("image: written alone can be answered without it")


def test_a_modality_that_nothing_can_do_without_is_said_to_be_one():
    (said,) = remarks({key: value for key, value in results().items() if "without" not in key}, DATASETS)
    assert said.startswith("image: nothing can be answered without it")


def test_a_mass_that_moves_against_it_is_told_with_numbers():
    (said,) = remarks(results(**{"test__mass_image__spoken": 0.83}), DATASETS)
    assert "0 of 1 comparisons" in said and "written and spoken" in said and "86 and 1 points" in said and "61.0 and 83.0 %" in said


def test_where_the_modality_is_worth_the_same_everywhere_nothing_is_claimed():
    (said,) = remarks(results(**{"test__accuracy_without_image__spoken": 0.12}), DATASETS)
    assert "cannot be checked" in said


def test_samples_are_the_same_whichever_form_the_batch_has_and_leave_out_what_a_row_lacks():
    model, entries, table = small_perceiver().eval(), raw_entries(), presence_table([7, 2, 5, 4, 3])
    forms = [whole_batch(entries, table, junk=float("nan")), compact_batch(entries, table)]
    rows = {"target": torch.tensor([0, 6, 2, 1, 5])}
    subject = Subject(Classification(model, CLASSES).eval(), classes=[f"class {c}" for c in range(CLASSES)])
    whole, compact = (samples(subject, gather(subject, [form | rows], 5)["data"]) for form in forms)
    for one, other, present in zip(whole, compact, table, strict=True):
        here = {name for name, has in zip(NAMES, present, strict=True) if has}
        assert set(one["inputs"]) == here and {name for name in one["without"] if "+" not in name} == (here if len(here) > 1 else set())
        assert one["inputs"] == other["inputs"] and one["expected"] == other["expected"]
        for layer, mass in one["mass"].items():
            assert set(one["attention"][layer]) == here and sum(mass.values()) == pytest.approx(1, abs=1e-3)
    assert [sample["expected"] for sample in whole] == ["class 0", "class 6", "class 2", "class 1", "class 5"]
    text = whole[0]["attention"]["encoder.cross.0"]["text"]
    assert len(whole[0]["inputs"]["text"]["characters"]) == len(text[0]) == int(entries["text_length"][0])
    assert len(whole[1]["attention"]["encoder.cross.0"]["audio"][0]) == -(-int(entries["audio_length"][1]) // 5)


COUNTED = ("accuracy_without", "mass", "token_share")


def test_rows_without_a_target_count_for_nothing():
    batch = whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.tensor([0, 6, 2, 1, 5])}
    batch["target_mask"] = torch.tensor([True, False, True, False, True])
    report, task = ModalityReport(), Classification(small_perceiver(), CLASSES).eval()
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    report.on_test_start(trainer, task)
    with torch.inference_mode():
        report.on_test_batch_end(trainer, task, None, batch, 0)
    assert {report.counts[f"test/{what}_{name}/data"] for what in COUNTED for name in NAMES} == {3}


def test_what_a_page_shows_is_small_whatever_came_in():
    assert visible(torch.randint(0, 255, (3, 5, 7), dtype=torch.uint8)).max() <= 1
    standardised = visible(torch.randn(3, 50, 70) * 2)
    assert float(standardised.min()) == 0 and float(standardised.max()) == 1
    assert visible(torch.rand(2, 5, 7)).shape == (1, 5, 7) and shrunk(torch.rand(3, 224, 300), 96).shape == (3, 56, 75)
    assert len(played(torch.rand(1, 500_000), 44_100)) < 100_000
    assert map_of(torch.ones(224 * 112), torch.ones(224 * 112, dtype=torch.bool), (224, 112))[0][0] == 8  # sums over squares of 4 x 2
    cut = map_of(torch.arange(6.0), torch.tensor([True, True, True, True, False, False]), (3, 2))
    assert cut == [[0.0, 1.0], [2.0, 3.0]]


def test_numbers_for_the_page_are_nested_lists_with_four_digits():
    assert rounded(torch.tensor([[1 / 3, 1.0]])) == [[0.3333, 1.0]]


def test_a_mixture_is_reported_dataset_by_dataset_and_shows_rows_of_each_that_has_classes():
    data = toy_mixture(eval_batch_size=5)
    task = Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), data.tasks).eval()
    report = ModalityReport(num_samples=6)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    report.on_test_start(trainer, task)
    with torch.inference_mode():
        for index, batch in enumerate(data.test_dataloader()):
            report.on_test_batch_end(trainer, task, None, batch, index)
    assert {report.counts[f"test/mass_{name}/{dataset}"] for name, dataset in (("image", "images"), ("audio", "sounds"), ("text", "texts"))} == {
        41,
        53,
        29,
    }
    assert [sample["dataset"] for sample in report.samples] == ["images"] * 3 + ["sounds"] * 3


def test_in_rows_that_mix_the_accuracy_without_a_modality_is_that_of_a_batch_that_never_had_it():
    data = toy_mixture(rows_per_dataset=1, batch_size=30)
    task = Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), data.tasks).eval()
    batch = next(iter(data.train_dataloader()))
    report = ModalityReport(num_samples=6)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    report.on_test_start(trainer, task)
    with torch.inference_mode():
        report.on_test_batch_end(trainer, task, None, batch, 0)
        losses, _ = task.judge(without(batch, "audio"))
    assert report.sums["test/loss_without_audio/images"] == pytest.approx(float(losses[batch["dataset"] == 0].sum()), rel=1e-4)
