"""Several tasks on one model: each row is asked what its task asks, and nothing of one task reaches another's figures."""

import lightning as L
import pytest
import torch
from builders import DIM, ROWS, gradients, raw_entries, small_encoder, small_perceiver_io, three_adapters
from torch.nn import functional as F
from toy_datasets import toy_mixture

from perceiver import Decoder, LearnedQueries, MultitaskPerceiver
from perceiver.initialization import linear
from perceiver.tasks import OBJECTIVES, ClassObjective, MaskedBytesObjective, Multitask
from perceiver.tasks.tally import Tally

TASKS = {
    "small": {"task": "classification", "num_classes": 3},
    "bytes": {"task": "masked_bytes", "modality": "text"},
    "large": {"task": "classification", "num_classes": 7},
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


def multitask(tasks: dict = TASKS) -> Multitask:
    return Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), tasks)


def mixed_batch() -> dict[str, torch.Tensor]:
    """Five rows: small, bytes, large, small, bytes; the last byte row masks two bytes, the first one three."""
    batch = raw_entries()
    batch["text_length"] = torch.tensor([17, 11, 5, 3, 7])
    batch |= {"dataset": torch.tensor([0, 1, 2, 0, 1]), "target": torch.tensor([2, 0, 6, 1, 0]), "target_mask": torch.ones(ROWS, dtype=torch.bool)}
    target = torch.zeros(2, 11, dtype=torch.long)
    target[0, [1, 4, 10]] = torch.tensor([70, 80, 90])
    target[1, [0, 6]] = torch.tensor([60, 50])
    return batch | {"text_target": target, "text_target_present": batch["dataset"] == 1, "text_target_length": torch.tensor([11, 7])}


def rows_of(batch: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Some rows of the mixed batch, alone."""
    kept = {key: value[rows] for key, value in batch.items() if not key.startswith("text_target")}
    compact = [[1, 4].index(row) for row in rows if row in (1, 4)]
    if not compact:
        return kept
    return kept | {"text_target": batch["text_target"][compact], "text_target_present": kept["dataset"] == 1}


def test_a_row_is_answered_in_a_mixed_batch_as_it_is_alone():
    task, batch = multitask().eval(), mixed_batch()
    with torch.inference_mode():
        losses, right = task.judge(batch)
        for row in range(ROWS):
            alone, alone_right = task.judge(rows_of(batch, [row]))
            assert torch.allclose(losses[row], alone[0], atol=1e-5) and right[row] == alone_right[0]


def test_each_row_is_judged_by_its_own_task():
    task, batch = multitask().eval(), mixed_batch()
    with torch.inference_mode():
        losses, right = task.judge(batch)
        outputs = task(batch)
    assert {name: output.shape for name, output in outputs.items()} == {"small": (2, 1, 3), "bytes": (2, 17, 262), "large": (1, 1, 7)}
    expected = F.cross_entropy(outputs["small"][:, 0], torch.tensor([2, 1]), reduction="none")
    assert torch.allclose(losses[[0, 3]], expected)
    assert torch.equal(right[[0, 3]], (outputs["small"][:, 0].argmax(-1) == torch.tensor([2, 1])).float())
    first = F.cross_entropy(outputs["bytes"][0, [1, 4, 10]], torch.tensor([70, 80, 90]))
    assert torch.allclose(losses[1], first)


def test_a_task_without_rows_in_a_batch_gets_no_gradient_and_the_encoder_gets_one_from_all():
    task, batch = multitask(), mixed_batch()
    task.train_loss(rows_of(batch, [0, 3])).backward()
    found = gradients(task)
    assert any(name.startswith("model.readouts.small") for name in found)
    assert not any(name.startswith(("model.readouts.large", "model.readouts.bytes")) for name in found)
    assert found["model.encoder.latents.weight"].abs().sum() > 0


def test_a_row_that_counts_for_nothing_has_no_gradient():
    task, batch = multitask(), mixed_batch()
    batch["target_mask"] = torch.tensor([True, True, False, True, True])
    task.train_loss(batch).backward()
    assert gradients(task)["model.readouts.large.head.weight"].abs().sum() == 0
    batch["target_mask"] = torch.zeros(ROWS, dtype=torch.bool)
    assert task.train_loss(batch) == 0


def test_probabilities_are_those_of_a_rows_own_classes():
    task, batch = multitask().eval(), mixed_batch()
    with torch.inference_mode():
        found = task.probabilities(batch)
    assert found.shape == (ROWS, 7)
    assert torch.allclose(found.sum(1), torch.tensor([1.0, 0, 1, 1, 0]))
    assert (found[[0, 3], 3:] == 0).all() and (found[2] > 0).all()


def test_a_tally_keeps_datasets_apart_and_says_nothing_of_those_without_rows():
    tally = Tally(["a", "b", "c"])
    tally.update(torch.tensor([1.0, 2, 4, 8]), torch.tensor([1.0, 0, 1, 1]), torch.tensor([0, 2, 2, 0]), torch.tensor([True, True, True, False]))
    tally.update(torch.tensor([3.0]), torch.tensor([0.0]), torch.tensor([0]), torch.tensor([True]))
    assert {name: (float(loss), float(right)) for name, (loss, right) in tally.compute().items()} == {"a": (2.0, 0.5), "c": (3.0, 0.5)}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ({}, "at least one"),
        ({"a": {"task": "sorcery"}}, "dataset 'a' asks for the task 'sorcery', and there are only classification, masked_bytes"),
        ({"a": {"task": "classification", "classes": 3}}, "dataset 'a': classification does not take"),
        ({"a": {"task": "classification", "num_classes": 1}}, "num_classes=1"),
    ],
)
def test_wrong_tasks_are_refused_by_name(tasks, said):
    with pytest.raises(ValueError, match=said):
        multitask(tasks)


def test_a_target_or_dataset_out_of_range_is_refused():
    task, batch = multitask(), mixed_batch()
    with pytest.raises(ValueError, match="target 7 of a row is out of range 0 to 6"):
        task.judge(batch | {"target": torch.tensor([2, 0, 7, 1, 0])})
    with pytest.raises(ValueError, match=r"dataset numbers \[0, 3\] of a batch: this model has 3 tasks"):
        task.judge(batch | {"dataset": torch.tensor([0, 3, 3, 0, 3])})


def test_a_task_of_ones_own_is_one_entry_in_the_table(monkeypatch):
    class Backwards(ClassObjective):
        def judge(self, outputs, batch, rows):
            return super().judge(-outputs, batch, rows)

    monkeypatch.setitem(OBJECTIVES, "backwards", Backwards)
    task = multitask({"a": {"task": "backwards", "num_classes": 3}, "b": {"task": "classification", "num_classes": 3}})
    assert isinstance(task.objectives["a"], Backwards) and not isinstance(task.objectives["b"], Backwards)


def test_label_smoothing_is_for_training_alone():
    plain, smooth = (multitask({"a": {"task": "classification", "num_classes": 3, "label_smoothing": share}}).eval() for share in (0.0, 0.3))
    smooth.load_state_dict(plain.state_dict())
    batch = {"dataset": torch.zeros(ROWS, dtype=torch.long), "target": torch.tensor([2, 0, 1, 1, 0])}
    batch |= {key: value for key, value in mixed_batch().items() if key not in batch and not key.startswith("text_target")}
    with torch.inference_mode():
        assert torch.equal(smooth.judge(batch)[0], plain.judge(batch)[0])
        expected = F.cross_entropy(smooth(batch)["a"][:, 0], batch["target"], label_smoothing=0.3)
        assert torch.allclose(smooth.train_loss(batch), expected) and not torch.allclose(plain.train_loss(batch), expected)


def test_a_model_refuses_a_second_task_of_the_same_name_other_widths_and_no_task_at_all():
    model = MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM))
    with pytest.raises(ValueError, match="no task"):
        model(raw_entries())
    model.add_task("a", LearnedQueries(1, 13), linear(13, 3))
    with pytest.raises(ValueError, match="the model has no task 'b', only a"):
        model(raw_entries(), ["a", "b"])
    with pytest.raises(ValueError, match="'a' already"):
        model.add_task("a", LearnedQueries(1, 13), linear(13, 3))
    with pytest.raises(ValueError, match="width 11 and the decoder takes 13"):
        model.add_task("b", LearnedQueries(1, 11), linear(11, 3))
    with pytest.raises(ValueError, match="width 5 and the encoder makes 14"):
        MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, 5))


def test_a_model_with_tasks_keeps_them_whatever_the_order_of_the_datasets():
    before = multitask({"a": {"task": "classification", "num_classes": 3}}).eval()
    both = {"b": {"task": "classification", "num_classes": 5}, "a": {"task": "classification", "num_classes": 3}}
    task = Multitask(before.model, both).eval()
    entries = raw_entries()
    with torch.inference_mode():
        alone = before.model(entries, ["a"])["a"]
        answers = task(entries | {"dataset": torch.tensor([1, 0, 1, 0, 1])})
    assert {name: answer.shape for name, answer in answers.items()} == {"b": (2, 1, 5), "a": (3, 1, 3)}
    assert torch.allclose(answers["a"], alone[::2], atol=1e-6)


def test_a_task_that_the_model_has_in_another_form_is_refused():
    before = multitask({"a": {"task": "classification", "num_classes": 3}})
    with pytest.raises(ValueError, match="the model has a task 'a' with outputs of another shape"):
        Multitask(before.model, {"a": {"task": "classification", "num_classes": 5}})


def test_one_task_is_perceiver_io():
    io = small_perceiver_io().eval()
    model = MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)).eval()
    model.add_task("only", LearnedQueries(2, 13), torch.nn.Linear(13, 7))
    shared = {name.replace("queries.", "readouts.only.queries.").replace("head.", "readouts.only.head."): w for name, w in io.state_dict().items()}
    model.load_state_dict(shared)
    batch = raw_entries()
    with torch.inference_mode():
        assert torch.equal(model(batch)["only"], io(batch))


def test_a_masked_row_without_a_word_has_loss_zero():
    objective = MaskedBytesObjective("text")
    batch = {"text_target": torch.zeros(2, 5, dtype=torch.long), "text_target_present": torch.tensor([True, True])}
    losses, right = objective.judge(torch.randn(2, 5, 262), batch, torch.tensor([True, True]))
    assert losses.tolist() == right.tolist() == [0, 0]


def test_a_checkpoint_made_in_python_holds_plain_data_alone(tmp_path):
    task = multitask(toy_mixture().tasks)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_steps=1,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    task.warmup_steps = 0
    trainer.fit(task, toy_mixture())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]["tasks"] == toy_mixture().tasks
