"""Guards: callbacks that keep a training from spoiling its weights, or from ending without a checkpoint or a word. The command line has all of them.

Outside of it: `Trainer(callbacks=guards("runs/mine/checkpoints/last.ckpt"), plugins=[WholeCheckpoints()])`.
"""

from pathlib import Path

from lightning.pytorch.callbacks import Callback

from perceiver.guards.memory import ExplainOutOfMemory
from perceiver.guards.non_finite import NonFinite, StopNonFinite
from perceiver.guards.preemption import EXIT_PREEMPTED, Preempted, SaveWhenPreempted
from perceiver.guards.workers import NameLostRows
from perceiver.resume import LogTrueStep, RandomState, RoomForCheckpoints

__all__ = ["EXIT_PREEMPTED", "ExplainOutOfMemory", "NameLostRows", "NonFinite", "Preempted", "SaveWhenPreempted", "StopNonFinite", "guards"]


def guards(checkpoint: str | Path) -> list[Callback]:
    """All that a training needs to be stopped and resumed without a loss.

    Args:
        checkpoint: what is written when the training is preempted, such as `runs/mine/checkpoints/last.ckpt`.
    """
    stops = [StopNonFinite(), SaveWhenPreempted(Path(checkpoint)), ExplainOutOfMemory(), NameLostRows()]
    return [LogTrueStep(), RandomState(), RoomForCheckpoints(Path(checkpoint)), *stops]
