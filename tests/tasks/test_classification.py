"""The classification task: what counts, what decays, how the learning rate runs, and what its checkpoints hold."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from perceiver import LatentArray, LearnedPositions, LearnedQueries
from perceiver.tasks import Classification, param_groups, warmup_cosine


class Linear(nn.Module):
    """A stand-in for a model: logits from `x`."""

    def __init__(self, features: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, batch):
        return self.linear(batch["x"])


def rows(n: int, classes: int = 5, **extra):
    return [{"x": torch.randn(3), "target": torch.tensor(i % classes), **extra} for i in range(n)]


def trainer(tmp_path, **options) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(default_root_dir=tmp_path, **(quiet | {"max_steps": 3} | options))


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`.*"),
]


def test_a_row_without_a_target_counts_for_nothing():
    task = Classification(Linear(), 5)
    logits = torch.randn(7, 5, requires_grad=True)
    target = torch.arange(7) % 5
    mask = torch.tensor([True, False, True, True, False, True, True])
    task.loss(logits, {"target": target, "target_mask": mask}).backward()
    assert (logits.grad[~mask] == 0).all()
    assert torch.isclose(task.loss(logits, {"target": target, "target_mask": mask}), nn.functional.cross_entropy(logits[mask], target[mask]))


def test_a_batch_in_which_no_row_has_a_target_has_loss_zero():
    task = Classification(Linear(), 5)
    loss = task.loss(torch.randn(3, 5), {"target": torch.zeros(3, dtype=torch.long), "target_mask": torch.zeros(3, dtype=torch.bool)})
    assert loss == 0


def test_accuracy_is_counted_dataset_by_dataset(tmp_path):
    class Oracle(nn.Module):
        """Right about dataset 0, wrong about dataset 1, and has one parameter."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, batch):
            return self.scale * nn.functional.one_hot((batch["target"] + batch["dataset"]) % 5, 5).float()

    data = [{"x": torch.zeros(3), "target": torch.tensor(i % 5), "dataset": torch.tensor(int(i >= 7))} for i in range(11)]
    task = Classification(Oracle(), 5, datasets=("right", "wrong", "unseen"))
    (results,) = trainer(tmp_path).test(task, DataLoader(data, 4), verbose=False)
    assert results["test/accuracy/right"] == 1 and results["test/accuracy/wrong"] == 0 and results["test/accuracy"] == 0.5
    assert "test/accuracy/unseen" not in results


@pytest.mark.parametrize(("key", "value", "limit"), [("target", 5, 4), ("target", -1, 4), ("dataset", 1, 0)])
def test_a_number_out_of_range_is_refused_with_its_row_and_the_limit(key, value, limit):
    task = Classification(Linear(), 5)
    batch = {"target": torch.zeros(3, dtype=torch.long), "dataset": torch.zeros(3, dtype=torch.long)}
    batch[key][2] = value
    with pytest.raises(ValueError, match=f"{key} {value} in row 2 of a batch is out of range 0 to {limit}"):
        task.loss(torch.randn(3, 5), batch)


def test_a_model_with_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 4\).*num_classes=5"):
        Classification(Linear(classes=4), 5)({"x": torch.randn(2, 3)})


@pytest.mark.parametrize("options", [{"num_classes": 1}, {"num_classes": 3, "datasets": ("a", "a")}, {"num_classes": 3, "datasets": ()}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError):
        Classification(Linear(), **options)


def test_only_matrices_decay():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.latents, self.positions, self.queries = LatentArray(3, 2), LearnedPositions(5, 2), LearnedQueries(1, 2)
            self.norm, self.linear, self.frozen = nn.LayerNorm(2), nn.Linear(2, 7), nn.Linear(2, 2).requires_grad_(False)

    model = Model()
    decay, rest = param_groups(model, 0.1)
    assert [p is model.linear.weight for p in decay["params"]] == [True] and decay["weight_decay"] == 0.1
    assert rest["weight_decay"] == 0
    assert {id(p) for p in rest["params"]} == {
        id(p) for p in (model.latents.weight, model.positions.weight, model.queries.weight, model.norm.weight, model.norm.bias, model.linear.bias)
    }


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, 4, 13)
    rates = []
    for _ in range(13):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0] and rates[4:] == sorted(rates[4:], reverse=True)
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="warmup_steps=13 of 13"):
        warmup_cosine(optimizer, 13, 13)


def test_a_checkpoint_holds_plain_values_and_gives_the_task_back(tmp_path):
    task = Classification(Linear(), 5, datasets=("a", "b"), learning_rate=0.01, warmup_steps=1)
    fit = trainer(tmp_path)
    fit.fit(task, DataLoader(rows(6), 2))
    fit.save_checkpoint(tmp_path / "task.ckpt")
    checkpoint = torch.load(tmp_path / "task.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["learning_rate"] == 0.01
    back = Classification.load_from_checkpoint(tmp_path / "task.ckpt", model=Linear(), weights_only=True)
    assert back.datasets == ("a", "b")
    assert torch.equal(back.model.linear.weight, task.model.linear.weight)


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path):
    task = Classification(Linear(), 5, warmup_steps=1)
    fit = trainer(tmp_path)
    fit.fit(task, DataLoader(rows(6), 2))
    fit.save_checkpoint(tmp_path / "task.ckpt")
    with pytest.raises(
        ValueError, match=r"another model: 1 of another shape \(model.linear.weight: \(5, 3\) in the checkpoint, \(5, 2\) in the model\)"
    ):
        Classification.load_from_checkpoint(tmp_path / "task.ckpt", model=Linear(features=2), weights_only=True)
    with pytest.raises(ValueError, match=r"2 weights missing \(model.0.linear.bias\), 2 weights unknown \(model.linear.bias\)"):
        Classification.load_from_checkpoint(tmp_path / "task.ckpt", model=nn.Sequential(Linear()), weights_only=True)


def test_the_same_task_for_another_model_keeps_every_setting():
    task = Classification(Linear(), 5, datasets=("a",), learning_rate=0.3, weight_decay=0.2, warmup_steps=7, label_smoothing=0.1)
    other = task.with_model(Linear())
    for name in ("num_classes", "datasets", "learning_rate", "weight_decay", "warmup_steps", "label_smoothing", "optimizer"):
        assert getattr(other, name) == getattr(task, name)
    assert other.model is not task.model


def test_label_smoothing_is_for_training_alone():
    task = Classification(Linear(), 5, label_smoothing=0.3)
    logits, batch = torch.randn(7, 5), {"target": torch.arange(7) % 5}
    plain, smooth = (nn.functional.cross_entropy(logits, batch["target"], label_smoothing=share) for share in (0.0, 0.3))
    assert torch.allclose(task.eval().loss(logits, batch), plain)
    assert torch.allclose(task.train().loss(logits, batch), smooth) and not torch.allclose(plain, smooth)
