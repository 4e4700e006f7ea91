"""Guard against preemption: a machine that is taken away sends SIGTERM, and kills a little later. Until then the step is finished and saved."""

import signal
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: not a failure, try again later
NOTHING_YET = "asked to end (SIGTERM) before the first step: start it again by the same command"


class Preempted(SystemExit):
    """The process was asked to end. It did, with a checkpoint from which the run goes on exactly.

    Args:
        said: where that is.
        code: exit code of the process.
    """

    def __init__(self, said: str, code: int = EXIT_PREEMPTED) -> None:
        super().__init__(code)
        self.said = said

    def __str__(self) -> str:
        return self.said


class SaveWhenPreempted(Callback):
    """After SIGTERM, finishes the step, writes a checkpoint, and ends with exit code 75.

    The signal only sets a mark: nothing is saved in the middle of a step, also of one whose gradients are gathered from several batches, and a second
    signal, during the saving, changes nothing. During a validation, the step after it is waited for. Of several ranks all save when one was asked.

    Args:
        checkpoint: where it goes; None to end without one, for what is trained again from its start.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens from here on, in place of Lightning, which ends without a checkpoint and puts everybody's handlers back when training is over.

        Raises:
            Preempted: when the process was asked before the first step.
        """
        if trainer.received_sigterm:
            raise Preempted(NOTHING_YET, exit_code(trainer.strategy.launcher, trainer.local_rank))
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
        if not asked or trainer.fit_loop._should_accumulate():  # the gradients so far are in no checkpoint
            return
        if self.checkpoint is None:
            said = "asked to end (SIGTERM) while a control was trained, which is trained again by the same command with --ckpt_path"
            raise Preempted(said, exit_code(trainer.strategy.launcher, trainer.local_rank))
        trainer.save_checkpoint(self.checkpoint)
        said = f"asked to end (SIGTERM): saved step {trainer.global_step}; go on with --ckpt_path {self.checkpoint}"
        raise Preempted(said, exit_code(trainer.strategy.launcher, trainer.local_rank))


def exit_code(launcher: Any, local_rank: int) -> int:
    """The exit code of a rank: 0 of one that Lightning started itself, since it kills the process that did so as soon as one ends with another.

    Args:
        launcher: of the trainer's strategy.
        local_rank: of this process on its machine.
    """
    return 0 if isinstance(launcher, _SubprocessScriptLauncher) and local_rank > 0 else EXIT_PREEMPTED
