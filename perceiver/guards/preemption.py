"""Guard against preemption: a machine that is taken away sends SIGTERM, and kills a little later. Until then the step is finished and saved."""

import signal
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: not a failure, try again later


class Preempted(SystemExit):
    """The process was asked to end. It did, with exit code 75 and a checkpoint from which the run goes on exactly."""

    def __init__(self, said: str) -> None:
        super().__init__(EXIT_PREEMPTED)
        self.said = said

    def __str__(self) -> str:
        return self.said


class SaveWhenPreempted(Callback):
    """After SIGTERM, finishes the step, writes a checkpoint, and ends with exit code 75.

    The signal only sets a mark: nothing is saved in the middle of a step, and a second signal, during the saving, changes nothing. During a
    validation, the step after it is waited for. Of several ranks all save when one of them was asked.

    Args:
        checkpoint: where it goes; None to end without one, for what is trained again from its start.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens from here on, in place of Lightning, which ends without a checkpoint and puts everybody's handlers back when training is over."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        self.asked = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves and ends, if it was asked for.

        Raises:
            Preempted: when it was.
        """
        asked = self.asked
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        if self.checkpoint is None:
            raise Preempted("asked to end (SIGTERM) while a control was trained, which is trained again by the same command with --ckpt_path")
        trainer.save_checkpoint(self.checkpoint)
        raise Preempted(f"asked to end (SIGTERM): saved step {trainer.global_step}; go on with --ckpt_path {self.checkpoint}")
