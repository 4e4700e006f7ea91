"""A loss or gradient that is NaN or infinite reaches no weight, and is told with its step, dataset and samples."""

from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from perceiver.guards import NonFinite, StopNonFinite
from perceiver.guards.non_finite import all_finite, bad_entries
from perceiver.resume import WholeCheckpoints
from perceiver.tasks import Classification

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step. but"),
]


class Rows(Dataset):
    """Eleven batches of three rows, some of which hold a value that is none."""

    def __init__(self, bad: dict[int, float]) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        values = torch.randn(3, 5, generator=torch.Generator().manual_seed(index))
        if index in self.bad:
            values[1, 2] = self.bad[index]
        return {"x": values, "target": torch.tensor([0, 1, 1])}


class Named(L.LightningDataModule):
    """The rows with their names."""

    def __init__(self, bad: dict[int, float]) -> None:
        super().__init__()
        self.rows = Rows(bad)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=None)

    def names(self, step: int) -> list[str]:
        return [f"digits/{step}-{row}" for row in range(3)]


class Model(torch.nn.Module):
    """Logits from the entry `x`."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(5, 2)

    def forward(self, batch):
        return self.linear(batch["x"])


class Remember(Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.weights.append(pl_module.model.linear.weight.detach().clone())


def trained(data: Named, guard: StopNonFinite, *callbacks: Callback, **options) -> Classification:
    torch.manual_seed(3)
    task = Classification(Model(), 2, warmup_steps=1)
    quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    L.Trainer(max_epochs=1, callbacks=[guard, *callbacks], plugins=[WholeCheckpoints()], **quiet | options).fit(task, data)
    return task


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_input_that_is_not_finite_stops_before_the_update_and_is_named(value):
    remember = Remember()
    with pytest.raises(NonFinite, match=r"step 4: .*x holds NaN or infinity in digits/4-1\. No weight was changed"):
        trained(Named({4: value}), StopNonFinite(), remember)
    assert len(remember.weights) == 4 and all(bool(weight.isfinite().all()) for weight in remember.weights)


def test_a_gradient_that_is_not_finite_is_named_by_its_parameter():
    class Burst(Callback):
        def on_after_backward(self, trainer, pl_module) -> None:
            if trainer.global_step == 5:
                pl_module.model.linear.bias.grad[0] = torch.inf

    with pytest.raises(
        NonFinite, match=r"step 5: the gradient of model\.linear\.bias is not finite.*in the step of digits/5-0, digits/5-1, digits/5-2"
    ):
        trained(Named({}), StopNonFinite(), Burst())


def test_gradients_so_large_that_their_norm_overflows_are_finite_all_the_same():
    large = torch.full((3,), 3e38)
    assert all_finite([torch.tensor(1.0)], [large]) and all_finite([], [large]) and all_finite([], [])
    assert not all_finite([torch.tensor(1.0)], [large, torch.tensor([torch.inf])])
    assert not all_finite([torch.tensor(torch.nan)], [large]) and not all_finite([torch.tensor(-torch.inf)], [])


def test_weights_that_are_not_finite_already_are_told_as_such():
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if batch_idx == 2:
                pl_module.model.linear.weight.data[0, 0] = torch.nan

    with pytest.raises(
        NonFinite, match=r"step 2: the weights of model\.linear\.weight are not finite.*An earlier step has spoiled model\.linear\.weight, and no"
    ):
        trained(Named({}), StopNonFinite(), Spoil())


def test_a_budget_of_steps_is_left_out_counted_and_then_over(caplog):
    remember, guard = Remember(), StopNonFinite(skip=2)
    trained(Named({3: torch.nan, 7: torch.inf}), guard, remember)
    assert guard.skipped == 2 and guard.state_dict() == {"skipped": 2}
    assert torch.equal(remember.weights[3], remember.weights[2]) and torch.equal(remember.weights[7], remember.weights[6])
    assert not torch.equal(remember.weights[4], remember.weights[3])
    assert "The step is left out, number 2 of the 2 that skip allows" in caplog.text
    guard = StopNonFinite(skip=2)
    with pytest.raises(NonFinite, match="2 steps were left out before, as many as skip=2 allows"):
        trained(Named({3: torch.nan, 7: torch.inf, 8: torch.nan}), guard)
    with pytest.raises(ValueError, match="skip=-1"):
        StopNonFinite(skip=-1)


def test_a_left_out_step_leaves_the_optimizer_as_it_was_too():
    """The run without the bad batch, and the run that leaves it out, end with the same weights where the schedule does not count steps."""

    class Without(Rows):
        def __getitem__(self, index):
            return super().__getitem__(index + (index >= 4))

        def __len__(self):
            return 10

    weights = []
    for data in (Named({4: torch.nan}), Named({})):
        if not data.rows.bad:
            data.rows = Without({})
        torch.manual_seed(3)
        task = Classification(Model(), 2, optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1))
        task.configure_optimizers = lambda task=task: torch.optim.AdamW(task.parameters(), lr=0.1)
        quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        L.Trainer(max_epochs=1, callbacks=[StopNonFinite(skip=1)], **quiet).fit(task, data)
        weights.append(task.model.linear.weight.detach())
    assert torch.equal(*weights)


def test_the_last_checkpoint_before_it_is_good(tmp_path):
    saver = L.pytorch.callbacks.ModelCheckpoint(tmp_path, "last", every_n_train_steps=1, enable_version_counter=False)
    with pytest.raises(NonFinite):
        trained(Named({4: torch.nan}), StopNonFinite(), saver, enable_checkpointing=True)
    content = WholeCheckpoints().load_checkpoint(Path(tmp_path / "last.ckpt"))
    assert content["global_step"] == 4 and all(bool(value.isfinite().all()) for value in content["state_dict"].values())


def test_weights_that_the_optimizer_has_spoiled_are_not_saved(tmp_path):
    class Spoil(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            if batch_idx == 3:
                pl_module.model.linear.bias.data[1] = torch.inf

    saver = L.pytorch.callbacks.ModelCheckpoint(tmp_path, "last", every_n_train_steps=1, enable_version_counter=False)
    with pytest.raises(NonFinite, match=r"step 4: model\.linear\.bias is not finite, although loss and gradients were.*Nothing is saved"):
        trained(Named({}), StopNonFinite(), Spoil(), saver, enable_checkpointing=True)
    assert WholeCheckpoints().load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 3


def test_whose_it_is_is_told_for_entries_of_all_rows_too_and_rows_without_the_modality_are_not_to_blame():
    values = torch.ones(3, 5)
    values[0, 1] = values[2, 1] = torch.nan
    present = torch.tensor([True, True, False])
    assert bad_entries({"x": values, "x_present": present}) == ("x", [0])
    assert bad_entries({"x": values[:2], "x_present": torch.tensor([False, True, True])}) == ("x", [1])
    assert bad_entries({"x": values[1:2], "x_present": present}) is None


@pytest.mark.parametrize("names", [["digits"], property(lambda self: 1 / 0)])
def test_what_goes_wrong_while_it_is_explained_takes_no_place_of_the_error(names):
    class Odd(Named):
        def train_dataloader(self) -> DataLoader:
            rows = self.rows
            return DataLoader([rows[i] | {"ids": ["a", "b", "c"]} for i in range(len(rows))], batch_size=None)

    Odd.names = names
    with pytest.raises(NonFinite, match="step 4: the loss is nan"):
        trained(Odd({4: torch.nan}), StopNonFinite())
    guard = StopNonFinite(skip=1)
    trained(Odd({4: torch.nan}), guard)
    assert guard.skipped == 1


def test_gradients_that_overflow_at_any_scale_are_told_and_not_left_out_for_ever():
    class Scaler(Callback):
        """In place of a scaler that has halved its scale in step after step."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            trainer.precision_plugin.scaler = SimpleNamespace(get_scale=lambda: 2.0 ** (-2 * trainer.global_step))

    with pytest.raises(NonFinite, match="step 6: a loss or gradient is not finite, of another rank or before it was scaled down"):
        trained(Named({}), StopNonFinite(), Scaler())
