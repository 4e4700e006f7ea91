"""Memory that runs out is explained in the error itself, and nothing that has to happen after an error is left out."""

import signal

import lightning as L
import pytest
import torch
from builders import raw_entries, small_perceiver
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import DummyLogger
from torch.utils.data import DataLoader

from perceiver import cli
from perceiver.guards import ExplainOutOfMemory, SaveWhenPreempted
from perceiver.guards.explained import explain, is_explained
from perceiver.resume import WholeCheckpoints
from perceiver.tasks import Autoencoding, Classification, MicroBatches
from tests.pretrained.test_published import ours, reference
from tests.tasks.test_published_tasks import labelled_clips

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step. but"),
]
QUIET = dict(accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)


def full(task: type, most: int) -> type:
    """The same task on a machine on which so many rows fit, and no more."""

    class Full(task):
        def train_loss(self, batch):
            if len(next(iter(batch.values()))) > most:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
            return super().train_loss(batch)

    return Full


class SaveWhenItFails(Callback):
    """Somebody's own, which comes after the guards."""

    def __init__(self, file):
        self.file = file

    def on_exception(self, trainer, pl_module, exception):
        trainer.save_checkpoint(self.file)


class Told(DummyLogger):
    """Remembers how a run ended."""

    status = None

    def finalize(self, status):
        self.status = status


def failed(task, batch, *callbacks, **options):
    """The error of a training on one batch."""
    trainer = L.Trainer(max_steps=3, callbacks=list(callbacks), plugins=[WholeCheckpoints()], **{"logger": False} | QUIET | options)
    with pytest.raises(RuntimeError) as error:
        trainer.fit(task, DataLoader([batch], batch_size=None))
    return error.value


def entries():
    return {"target": torch.tensor([0, 2, 3, 5, 6])} | raw_entries()


def test_it_says_what_takes_how_much_and_how_many_rows_fit_as_was_tried():
    error = failed(full(Classification, 2)(small_perceiver(), 7, warmup_steps=1), entries(), ExplainOutOfMemory())
    told = "a step with 5 rows does not fit into the [\\d,]+ MB that there are for it: weights .* MB, gradients .* MB, optimizer .* MB, kept by "
    assert is_explained(error)
    with pytest.raises(
        RuntimeError, match=f"^step 0: {told}.*A batch of 1 rows fits, as a trial with 2 has shown: make it smaller, or give the task"
    ):
        raise error


def test_who_goes_through_batches_in_parts_already_is_not_told_to():
    task = full(Classification, 2)(small_perceiver(), 7, warmup_steps=1, micro_batches=MicroBatches(most=2))
    assert "or let `micro_batches` make more parts of it (most)" in str(failed(task, entries(), ExplainOutOfMemory()))


def test_a_task_that_logs_its_parts_is_explained_too():
    task = full(Autoencoding, 1)(ours("multimodal", reference("multimodal")), places={"image": 7}, warmup_steps=1)
    assert "A batch of 1 rows fits, as a trial with 1 has shown" in str(failed(task, labelled_clips(), ExplainOutOfMemory()))


def test_not_even_one_row_fits():
    error = failed(full(Classification, 0)(small_perceiver(), 7, warmup_steps=1), entries(), ExplainOutOfMemory())
    assert str(error).endswith("Not even one row fits: make the inputs or the model smaller")


def test_callbacks_loggers_and_signals_are_done_with_as_after_any_error(tmp_path):
    logger, handler = Told(), signal.getsignal(signal.SIGTERM)
    task = full(Classification, 2)(small_perceiver(), 7, warmup_steps=1)
    callbacks = (ExplainOutOfMemory(), SaveWhenPreempted(None), SaveWhenItFails(tmp_path / "last.ckpt"))
    failed(task, entries(), *callbacks, logger=logger, log_every_n_steps=1)
    assert (tmp_path / "last.ckpt").is_dir() and logger.status == "failed" and signal.getsignal(signal.SIGTERM) == handler


def test_another_error_stays_as_it_is():
    class Wrong(Classification):
        def train_loss(self, batch):
            raise RuntimeError("shapes do not fit")

    error = failed(Wrong(small_perceiver(), 7, warmup_steps=1), entries(), ExplainOutOfMemory())
    assert str(error) == "shapes do not fit" and not is_explained(error)


def test_the_command_line_says_in_one_line_what_was_explained_and_shows_where_another_error_comes_from(monkeypatch, capsys):
    error = RuntimeError("no memory")

    def fails(words):
        raise error

    monkeypatch.setattr(cli, "run", fails)
    with pytest.raises(RuntimeError):
        cli.main([])
    explain(error, "no memory, and why")
    assert cli.main([]) == 2 and capsys.readouterr().err == "error: no memory, and why\n"
