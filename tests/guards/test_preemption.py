"""SIGTERM: the step is finished and saved, and the run that goes on is the run that was left alone."""

import os
import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_non_finite import Model, Named

from perceiver import checkpoints
from perceiver.guards import EXIT_PREEMPTED, Preempted, SaveWhenPreempted, guards
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


def fit(callbacks, ckpt_path=None) -> Classification:
    torch.manual_seed(3)
    task = Classification(Model(), 2, warmup_steps=1)
    quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    L.Trainer(max_epochs=1, callbacks=callbacks, plugins=[WholeCheckpoints()], **quiet).fit(task, Named({}), ckpt_path=ckpt_path)
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


def test_what_has_no_checkpoint_ends_without_one(tmp_path):
    with pytest.raises(Preempted, match="control"):
        fit([SaveWhenPreempted(None), Ask(4)])
    assert not list(tmp_path.iterdir())


def test_a_trainer_that_nobody_stops_trains_to_its_end(tmp_path):
    fit(guards(tmp_path / "last.ckpt"))
    assert not list(tmp_path.iterdir())
