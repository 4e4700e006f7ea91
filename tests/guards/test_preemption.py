"""SIGTERM: the step is finished and saved, and the run that goes on is the run that was left alone."""

import os
import re
import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException
from test_non_finite import Model, Named, Rows

from perceiver import checkpoints, cli
from perceiver.guards import EXIT_PREEMPTED, Preempted, SaveWhenPreempted, guards
from perceiver.guards.preemption import exit_code
from perceiver.resume import WholeCheckpoints
from perceiver.tasks import Classification

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step. but"),
    pytest.mark.filterwarnings("ignore:Be aware that when using"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]


class Ask(Callback):
    """Sends SIGTERM to this process in the middle of some steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step in self.steps:
            os.kill(os.getpid(), signal.SIGTERM)


class AskAtBatch(Callback):
    """Sends it when a batch begins."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGTERM)


class AskAtOnce(Callback):
    """Sends it before the first step."""

    def on_train_start(self, trainer, pl_module) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class Later(Rows):
    """The rows from batch 8 on: Lightning counts on where it stopped, and a plain loader begins anew."""

    def __getitem__(self, index):
        return super().__getitem__(index + 8)


def fit(callbacks, ckpt_path=None, rows=None, **options) -> Classification:
    torch.manual_seed(3)
    task = Classification(Model(), 2, warmup_steps=1)
    quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    data = Named({})
    data.rows = rows or data.rows
    L.Trainer(max_epochs=1, callbacks=callbacks, plugins=[WholeCheckpoints()], **quiet | options).fit(task, data, ckpt_path=ckpt_path)
    return task


def test_a_step_under_way_is_finished_and_saved_and_the_exit_code_says_try_again(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match=r"saved step 5; go on with --ckpt_path .*last\.ckpt") as ended:
        fit([*guards(tmp_path / "last.ckpt"), Ask(4)])
    assert ended.value.code == EXIT_PREEMPTED == 75
    assert checkpoints.read(tmp_path / "last.ckpt")["global_step"] == 5
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_while_it_is_saved_spoils_nothing(tmp_path, monkeypatch):
    real = WholeCheckpoints.save_checkpoint

    def asked_again(self, *given, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        real(self, *given, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", asked_again)
    with pytest.raises(Preempted):
        fit([*guards(tmp_path / "last.ckpt"), Ask(4)])
    assert checkpoints.read(tmp_path / "last.ckpt")["global_step"] == 5


def test_gradients_that_are_gathered_from_several_batches_are_not_lost(tmp_path):
    whole = fit(guards(tmp_path / "none.ckpt"), accumulate_grad_batches=4)
    with pytest.raises(Preempted, match="saved step 2;"):
        fit([*guards(tmp_path / "last.ckpt"), AskAtBatch(5)], accumulate_grad_batches=4)
    resumed = fit(guards(tmp_path / "last.ckpt"), tmp_path / "last.ckpt", Later({}), accumulate_grad_batches=4)
    assert torch.equal(whole.model.linear.weight, resumed.model.linear.weight)


def test_before_the_first_step_it_ends_with_the_same_code_and_saves_nothing(tmp_path):
    with pytest.raises(Preempted, match="before the first step: start it again") as ended:
        fit([AskAtOnce(), *guards(tmp_path / "last.ckpt")])
    assert ended.value.code == EXIT_PREEMPTED and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("rank", "started_by", "code"), [(0, _SubprocessScriptLauncher, 75), (1, _SubprocessScriptLauncher, 0), (1, object, 75)])
def test_a_rank_that_lightning_started_ends_without_an_error_which_would_kill_the_first(rank, started_by, code):
    assert exit_code(object.__new__(started_by), rank) == code


@pytest.mark.parametrize(("raised", "code"), [(Preempted("saved"), 75), (Preempted("saved", 0), 0), (SIGTERMException(), 75)])
def test_the_command_line_ends_with_the_code_that_has_it_started_again(monkeypatch, capsys, raised, code):
    def ended(words):
        raise raised

    monkeypatch.setattr(cli, "run", ended)
    assert cli.main([]) == code
    assert re.search("saved|asked to end", capsys.readouterr().err)


def test_what_has_no_checkpoint_ends_without_one(tmp_path):
    with pytest.raises(Preempted, match="control"):
        fit([SaveWhenPreempted(None), Ask(4)])
    assert not list(tmp_path.iterdir())


def test_a_trainer_that_nobody_stops_trains_to_its_end(tmp_path):
    fit(guards(tmp_path / "last.ckpt"))
    assert not list(tmp_path.iterdir())
