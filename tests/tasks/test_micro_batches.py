"""Micro-batches: a step in parts is the step of the whole batch, and memory that runs out makes more parts of it, not an end."""

from functools import partial

import lightning as L
import pytest
import torch
from builders import raw_entries, small_perceiver
from test_multitask import mixed_batch, multitask
from torch import nn

from perceiver.adapters.presence import row_count, some_rows
from perceiver.resume import WholeCheckpoints
from perceiver.tasks import Classification, MicroBatches


def gradients_of(task: nn.Module) -> dict[str, torch.Tensor | None]:
    """By name; None where nothing was learned."""
    return {name: None if weight.grad is None else weight.grad.clone() for name, weight in task.named_parameters()}


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(parts):
    task, batch = multitask().eval(), mixed_batch()
    batch["target_mask"] = torch.tensor([True, True, False, True, True])
    whole = task.train_loss(batch)
    (3 * whole).backward()
    expected = gradients_of(task)
    task.zero_grad()
    loss = MicroBatches(parts)(task, task.train_loss, task.count, batch)
    assert all(weight.grad is None for weight in task.parameters())
    (3 * loss).backward()
    found = gradients_of(task)
    assert torch.allclose(loss, whole, atol=1e-6)
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4), name


def test_rows_are_taken_out_with_the_entries_that_they_have():
    batch = mixed_batch()
    parts = [some_rows(batch, slice(start, start + 2)) for start in (0, 2, 4)]
    assert [row_count(part) for part in parts] == [2, 2, 1]
    for key in batch:
        assert torch.equal(torch.cat([part[key] for part in parts]), batch[key]), key


def test_memory_that_runs_out_makes_more_parts_of_the_same_batch():
    task = Classification(small_perceiver().eval(), 7)
    batch = raw_entries() | {"target": torch.tensor([0, 2, 3, 5, 6])}
    rows = []

    def loss(part):
        rows.append(row_count(part))
        if rows[-1] > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return task.train_loss(part)

    micro = MicroBatches()
    found = micro(task, loss, task.count, batch)
    assert rows == [5, 3, 2, 2, 1] and micro.parts == 4
    assert torch.allclose(found, task.train_loss(batch), atol=1e-6)
    rows.clear()
    micro(task, loss, task.count, batch)
    assert rows == [2, 2, 1]


def test_memory_that_never_suffices_and_other_errors_are_let_through():
    task = Classification(small_perceiver(), 7)

    def fails(error):
        def loss(part):
            raise error

        return loss

    for error in (MemoryError("no memory"), RuntimeError("a shape does not fit")):
        with pytest.raises(type(error), match=str(error)):
            MicroBatches()(task, fails(error), task.count, raw_entries())
    with pytest.raises(ValueError, match="parts=0 must be from 1 to most=1024"):
        MicroBatches(0)


class Batches(torch.utils.data.Dataset):
    """Three batches of five rows."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        torch.manual_seed(index)
        return raw_entries() | {"target": torch.tensor([index, 2, 3, 5, 6])}


QUIET = dict(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*treespec, LeafSpec.*", "ignore:You defined a .validation_step. but")
def test_a_training_in_parts_is_the_training_of_whole_batches():
    weights = []
    for micro in (None, MicroBatches(2)):
        torch.manual_seed(7)
        sgd = partial(torch.optim.SGD, lr=0.1)  # Adam makes steps of the rounding errors of a gradient that is zero
        task = Classification(small_perceiver(), 7, warmup_steps=1, optimizer=sgd, micro_batches=micro)
        trainer = L.Trainer(max_epochs=2, gradient_clip_val=0.5, accumulate_grad_batches=2, enable_checkpointing=False, **QUIET)
        trainer.fit(task, torch.utils.data.DataLoader(Batches(), batch_size=None))
        weights.append(task.state_dict())
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=1e-4), name


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*treespec, LeafSpec.*", "ignore:You defined a .validation_step. but")
def test_a_resumed_run_goes_on_in_as_many_parts(tmp_path):
    file = tmp_path / "last.ckpt"
    rows = torch.utils.data.DataLoader(Batches(), batch_size=None)
    for epochs, parts, resumed in ((1, 3, None), (2, 1, file)):
        task = Classification(small_perceiver(), 7, warmup_steps=1, micro_batches=MicroBatches(parts))
        trainer = L.Trainer(max_epochs=epochs, default_root_dir=tmp_path, plugins=[WholeCheckpoints()], enable_checkpointing=False, **QUIET)
        trainer.fit(task, rows, ckpt_path=resumed)
        trainer.save_checkpoint(file)
        assert task.micro_batches.parts == 3


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:You defined a .validation_step. but", "ignore:.*autocast.*")
def test_float16_is_refused_before_training():
    task = Classification(small_perceiver(), 7, warmup_steps=1, micro_batches=MicroBatches(2))
    trainer = L.Trainer(max_epochs=1, precision="16-true", enable_checkpointing=False, **QUIET)
    with pytest.raises(ValueError, match="micro_batches cannot be trained with precision=16-true.*Use bf16-mixed"):
        trainer.fit(task, torch.utils.data.DataLoader(Batches(), batch_size=None))
