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


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_the_model_does_not_know_is_shown_as_unknown(label):
    subject = Subject(Classification(small_perceiver().eval(), CLASSES).eval())
    batch = whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.tensor([0, label, 2, 1, 5])}
    found = samples(subject, gather(subject, [batch], 5)["data"])
    assert [sample["expected"] for sample in found] == ["0", "unknown", "2", "1", "5"]


COUNTED = ("accuracy_without", "mass", "token_share")


def told(task: Classification, batches: list[dict[str, torch.Tensor]], precision: str = "64-true") -> dict[str, float]:
    """What a report finds in some batches."""
    report = ModalityReport(num_samples=1)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", precision=precision)
    report.on_test_start(trainer, task)
    with torch.inference_mode():
        for index, batch in enumerate(batches):
            report.on_test_batch_end(trainer, task, None, batch, index)
    means, rows = report._of_all_ranks()
    return means | rows


@pytest.mark.parametrize("form", [whole_batch, compact_batch])
def test_the_same_rows_give_the_same_report_in_one_batch_and_one_by_one(form):
    torch.manual_seed(3)
    entries, table = raw_entries(7, torch.float64), presence_table([7, 3, 1, 5, 4, 7, 1])
    rows = {"target": torch.tensor([0, 6, 2, 1, 5, 4, 3]), "dataset": torch.tensor([0, 0, 0, 0, 1, 1, 2])}
    task = Classification(small_perceiver(), CLASSES, datasets=("several", "text", "image")).eval().double()
    alone = []
    for i in range(7):
        mine = {key: value[i : i + 1] for key, value in (entries | rows).items()}
        alone.append(form({key: mine[key] for key in entries}, table[i : i + 1]) | {key: mine[key] for key in rows})
    together, apart = told(task, [form(entries, table) | rows]), told(task, alone)
    assert together.keys() == apart.keys()
    assert together == pytest.approx(apart, abs=1e-6)
    assert [together[f"test/rows/{name}"] for name in task.datasets] == [4, 2, 1]
    # Audio is there in rows 1 and 3 of four; the row that has nothing but a picture cannot do without it.
    for dataset, names in {"several": NAMES, "text": NAMES, "image": ("image",)}.items():
        assert {key.split("/")[1] for key in together if key.startswith("test/mass_") and key.endswith(f"/{dataset}")} == {f"mass_{n}" for n in names}
        assert sum(together[f"test/mass_{n}/{dataset}"] for n in names) == pytest.approx(1)
        assert sum(together[f"test/token_share_{n}/{dataset}"] for n in names) == pytest.approx(1)
    assert not any("without" in key and key.endswith("/image") for key in together)


def test_a_row_that_lacks_a_modality_counts_with_its_own_loss_without_it():
    batch = whole_batch(raw_entries(), presence_table([3, 7, 5, 6, 7])) | {"target": torch.tensor([0, 6, 2, 1, 5])}
    task = Classification(small_perceiver(), CLASSES).eval()
    task.requires_grad_(False)
    own, found = task.judge(batch)[0], told(task, [batch], "32-true")
    for name in NAMES:
        has, taken = batch[f"{name}_present"], task.judge(without(batch, name))[0]
        assert 0 < has.sum() < 5
        assert found[f"test/loss_without_{name}/data"] == pytest.approx(float(torch.where(has, taken, own).mean()), rel=1e-5)


def test_in_mixed_precision_the_model_is_asked_again_in_the_same_precision():
    torch.manual_seed(3)
    batch = whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.tensor([0, 6, 2, 1, 5])}
    task = Classification(small_perceiver(), CLASSES).eval()
    task.requires_grad_(False)
    plain = float(task.judge(without(batch, "text"))[0].mean())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = float(task.judge(without(batch, "text"))[0].mean())
    assert abs(mixed - plain) > 1e-5
    assert told(task, [batch], "bf16-mixed")["test/loss_without_text/data"] == pytest.approx(mixed, abs=abs(mixed - plain) / 10)


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
