"""Balance: what is ahead is slowed by the paper's factor, whatever the optimizer; all else is left alone, to the last bit."""

import math
from typing import Any

import lightning as L
import pytest
import torch
from builders import CLASSES, DIM, NAMES, ROWS, presence_table, raw_entries, small_encoder, small_perceiver, three_adapters, whole_batch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from perceiver.adapters import Adapter, ModalityDropout
from perceiver.decoder import Decoder
from perceiver.models import LateFusion, MultitaskPerceiver, Perceiver
from perceiver.tasks import BalanceModalities, Classification, Multitask
from perceiver.tasks.balance import own_weights, slowing

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`.*"),
]
AHEAD = {"image": 0.1, "audio": 0.8, "text": 0.2}


class Told(BalanceModalities):
    """Scores are given, not found."""

    def scores(self, trainer: L.Trainer, task: Any) -> dict[str, float]:
        return AHEAD


class Kept(L.Callback):
    """Keeps the weights after each step, and what was logged."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.logged: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.steps.append({name: weight.detach().clone() for name, weight in pl_module.model.named_parameters()})
        self.logged = dict(trainer.callback_metrics)


def batches(number: int = 3) -> list[dict[str, Tensor]]:
    torch.manual_seed(7)
    return [raw_entries() | {"target": torch.randint(CLASSES, (ROWS,))} for _ in range(number)]


def task_of(model: nn.Module) -> Classification:
    return Classification(model, CLASSES, warmup_steps=0, learning_rate=1e-2)


def fitted(task: L.LightningModule, *callbacks: L.Callback, data: list | None = None, steps: int = 1, **options: Any) -> Kept:
    """Weights after each step of training."""
    kept, data = Kept(), data or batches()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=steps, callbacks=[*callbacks, kept], **(quiet | options))
    torch.manual_seed(3)
    trainer.fit(task, DataLoader(data, batch_size=None))
    return kept


def started(dropout: float = 0.0) -> Perceiver:
    torch.manual_seed(5)
    return small_perceiver(ModalityDropout(dropout) if dropout else None)


def of(name: str, modality: str) -> bool:
    return name.startswith((f"inputs.adapters.{modality}.", f"inputs.projections.{modality}."))


def test_the_factor_is_that_of_the_paper_and_lies_above_zero_up_to_one() -> None:
    found = slowing({"a": 0.6, "b": 0.2, "c": 0.1}, 0.5)
    assert found["a"] == pytest.approx(1 - math.tanh(0.5 * 0.6 / 0.15)) and found["b"] == found["c"] == 1
    assert set(slowing({"a": 0.6, "b": 0.2}, 0.0).values()) == {1.0}
    assert set(slowing({"a": 0.3, "b": 0.3}, 0.5).values()) == {1.0} and slowing({"a": 0.9}, 0.5) == {"a": 1.0}
    for alpha, score in ((0.1, 0.5), (3.0, 1.0), (100.0, 1e12)):
        assert 0 < slowing({"a": score, "b": 0.01}, alpha)["a"] < 1


def test_what_is_ahead_takes_a_part_of_its_step_and_all_others_take_theirs_to_the_last_bit() -> None:
    before = {name: weight.detach().clone() for name, weight in started().named_parameters()}
    (plain,), (slowed,) = fitted(task_of(started())).steps, fitted(task_of(started()), Told(0.5)).steps
    factor = slowing(AHEAD, 0.5)["audio"]
    assert factor < 0.5 and sum(of(name, "audio") for name in plain) >= 2
    for name, weight in plain.items():
        if of(name, "audio"):
            assert torch.allclose(slowed[name] - before[name], factor * (weight - before[name]), rtol=1e-3, atol=1e-8), name
            assert not torch.equal(slowed[name], weight)
        else:
            assert torch.equal(slowed[name], weight), name


def test_over_several_steps_what_is_ahead_moves_less_far() -> None:
    before = {name: weight.detach().clone() for name, weight in started().named_parameters()}
    plain, slowed = fitted(task_of(started()), steps=3), fitted(task_of(started()), Told(1.0), steps=3)
    for name in ("inputs.projections.audio.weight", "inputs.projections.image.weight"):
        moved, less = ((found.steps[-1][name] - before[name]).norm() for found in (plain, slowed))
        assert (less < 0.3 * moved) == of(name, "audio")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_without_strength_training_is_as_without_the_callback_to_the_last_bit(dropout: float) -> None:
    plain = fitted(task_of(started(dropout)), steps=3)
    idle = fitted(task_of(started(dropout)), BalanceModalities(0.0, noise=1.0), steps=3)
    for before, after in zip(plain.steps, idle.steps, strict=True):
        assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert {idle.logged[f"train/balance/{name}"].item() for name in NAMES} == {1.0}


def test_under_adam_a_smaller_gradient_makes_no_smaller_step() -> None:
    """Why the step is scaled, and not the gradient."""
    found = []
    for factor in (1.0, 0.1):
        torch.manual_seed(3)
        weight = nn.Parameter(torch.zeros(13))
        optimizer = torch.optim.AdamW([weight], lr=1e-2, weight_decay=0.05)
        for _ in range(5):
            weight.grad = factor * torch.randn(13)
            optimizer.step()
        found.append(weight.detach())
    assert torch.allclose(found[0], found[1], rtol=1e-4) and found[0].abs().min() > 1e-3


def test_scores_are_the_probability_of_the_right_class_with_one_modality_alone() -> None:
    task, balance, (batch,) = task_of(started()), BalanceModalities(), batches(1)
    kept: list[dict[str, float]] = []
    balance.scores = lambda *args, found=balance.scores: kept.append(found(*args)) or kept[-1]  # type: ignore[method-assign, misc]
    fitted(task, balance, data=[batch])
    model = started().eval()
    for name in NAMES:
        alone = {key: value for key, value in batch.items() if key.split("_")[0] == name}
        right = model(alone).softmax(-1).gather(1, batch["target"][:, None])
        assert kept[0][name] == pytest.approx(float(right.mean().detach()), rel=1e-5)


def scores_of(task: Any, batch: dict[str, Tensor], **options: Any) -> dict[str, float]:
    """What a callback finds at the first step."""
    found: list[dict[str, float]] = []

    class Heard(BalanceModalities):
        def scores(self, *args: Any) -> dict[str, float]:
            found.append(super().scores(*args))
            return found[-1]

    fitted(task, Heard(**options), data=[batch])
    return found[0]


def test_rows_without_the_modality_or_without_a_target_do_not_count() -> None:
    (batch,), table = batches(1), presence_table([7, 3, 6, 1, 5])
    batch = whole_batch(batch, table, math.nan) | {"target": batch["target"], "target_mask": torch.tensor([True, True, True, True, False])}
    found, model = scores_of(task_of(started()), batch), started().eval()
    for i, name in enumerate(NAMES):
        rows = table[:, i] & batch["target_mask"]
        alone = {key: value[rows] for key, value in batch.items() if key.split("_")[0] == name}
        right = model(alone).softmax(-1).gather(1, batch["target"][rows, None])
        assert found[name] == pytest.approx(float(right.mean().detach()), rel=1e-5)
    assert set(scores_of(task_of(started()), whole_batch(batch, presence_table([3] * ROWS)) | {"target": batch["target"]})) == {"image", "audio"}


def test_what_is_not_compared_is_read_in_all_passes_and_never_slowed() -> None:
    (batch,), model = batches(1), started().eval()
    found = scores_of(task_of(started()), batch, modalities=["image", "audio"])
    assert set(found) == {"image", "audio"}
    alone = {key: value for key, value in batch.items() if key.split("_")[0] in ("image", "text")}
    assert found["image"] == pytest.approx(float(model(alone).softmax(-1).gather(1, batch["target"][:, None]).mean().detach()), rel=1e-5)
    kept = fitted(task_of(started()), BalanceModalities(modalities=["image", "audio"]))
    assert "train/balance/text" not in kept.logged and "train/balance/image" in kept.logged


def multitask() -> Multitask:
    tasks = {
        "bytes": {"task": "masked_bytes", "modality": "text"},
        "small": {"task": "classification", "num_classes": 3},
        "large": {"task": "classification", "num_classes": 7},
    }
    torch.manual_seed(5)
    return Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), tasks, warmup_steps=0)


def test_rows_of_a_task_without_classes_count_for_nothing() -> None:
    """Their queries are made of the text, which is not there when another modality is asked alone."""
    (batch,) = batches(1)
    batch |= {"dataset": torch.tensor([1, 0, 2, 1, 0]), "target": torch.tensor([2, 0, 6, 1, 0])}
    batch |= {"text_target": torch.full((2, 17), 70), "text_target_present": batch["dataset"] == 0, "text_target_length": torch.tensor([17, 17])}
    found, reference = scores_of(multitask(), batch), multitask().eval()
    rows = torch.tensor([0, 2, 3])
    for name in NAMES:
        alone = {key: value[rows] for key, value in batch.items() if key in (name, f"{name}_length", "dataset", "target")}
        right = reference.probabilities(alone).gather(1, alone["target"][:, None])
        assert found[name] == pytest.approx(float(right.mean().detach()), rel=1e-5)
    only_bytes = {"bytes": {"task": "masked_bytes", "modality": "text"}}
    task = Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), only_bytes)
    with pytest.raises(ValueError, match="Multitask has no dataset with classes"):
        fitted(task, BalanceModalities(), data=[batch])


def test_modalities_are_compared_every_so_many_steps() -> None:
    calls = []

    class Counted(Told):
        def scores(self, trainer: L.Trainer, task: Any) -> dict[str, float]:
            calls.append(trainer.global_step)
            return AHEAD

    kept = fitted(task_of(started()), Counted(every=2), data=batches(5), steps=5)
    assert calls == [0, 2, 4]
    name = "inputs.projections.audio.weight"
    assert all(not torch.equal(before[name], after[name]) for before, after in zip(kept.steps, kept.steps[1:], strict=False))


def test_of_several_batches_to_a_step_the_step_is_slowed() -> None:
    plain = fitted(task_of(started()), data=batches(4), steps=2, accumulate_grad_batches=2)
    slowed = fitted(task_of(started()), Told(1.0), data=batches(4), steps=2, accumulate_grad_batches=2)
    before, name = started().get_parameter("inputs.projections.audio.weight").detach(), "inputs.projections.audio.weight"
    assert torch.equal(slowed.steps[0][name], before)  # no step yet
    step, part = plain.steps[1][name] - before, slowed.steps[1][name] - before
    assert torch.allclose(part, slowing(AHEAD, 1.0)["audio"] * step, rtol=1e-3, atol=1e-7) and step.any()


def test_noise_has_the_size_of_the_step_that_was_not_taken_and_is_the_same_again() -> None:
    name, before = "inputs.projections.audio.weight", started().get_parameter("inputs.projections.audio.weight").detach()
    (plain,), (slowed,) = fitted(task_of(started())).steps, fitted(task_of(started()), Told()).steps
    (first,), (again,) = (fitted(task_of(started()), Told(noise=2.0)).steps for _ in range(2))
    noise = first[name] - slowed[name]
    assert torch.equal(first[name], again[name])
    assert float(noise.std()) == pytest.approx(2 * float((plain[name] - before).std()), rel=0.2)
    assert all(torch.equal(first[key], slowed[key]) for key in first if not of(key, "audio"))


def test_every_module_is_left_in_the_mode_that_it_was_in() -> None:
    task, modes = task_of(started(0.3)), {}

    class Modes(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.model.norm.eval()  # as a frozen part may be

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            modes.update({name: module.training for name, module in pl_module.model.named_modules()})

    fitted(task, BalanceModalities(), Modes())
    assert modes.pop("norm") is False and all(modes.values())


def test_frozen_weights_are_no_weights_of_their_own() -> None:
    model = started()
    model.inputs.projections["audio"].requires_grad_(False)
    assert {len(own_weights(model, name)) for name in ("image", "audio")} == {2, 0}
    assert len(own_weights(model, "text")) == 4  # bytes, places, and their map


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: Perceiver({"audio": sound()}, small_encoder(), nn.Linear(DIM, CLASSES)), {}, "audio alone is compared, and it takes two"),
        (small_perceiver, {"modalities": ["text"]}, "text alone is compared"),
        (small_perceiver, {"modalities": ["text", "video"]}, "the model has no 'video', only image, audio, text"),
        (lambda: LateFusion({"audio": small_perceiver()}), {}, "LateFusion has none"),
    ],
)
def test_what_cannot_be_balanced_is_refused_before_training(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(task_of(model()), BalanceModalities(**options))


def sound() -> Adapter:
    return three_adapters()["audio"]


@pytest.mark.parametrize("options", [{"alpha": -0.1}, {"noise": -1.0}, {"every": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        BalanceModalities(**options)
