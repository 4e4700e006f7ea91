"""Exact resume: what a run needs so that, killed at any step and resumed, it goes on as if nothing had happened.

Rows are a function of the step (`perceiver.data.mixture.order`), and Lightning restores weights, optimizer and schedule. What is
missing is here: the random numbers of the model, a count of steps that is right at an epoch's end, a checkpoint that is
whole whenever the process dies and wherever its folder is moved, and a log in which no step stands twice.
"""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from perceiver import checkpoints
from perceiver.checkpoints.content import pack
from perceiver.ranks import from_all_ranks
from perceiver.run_log import RunLogger

State = dict[str, Any]


def random_state() -> State:
    """The state of all random numbers of this process: torch on CPU and on the current GPU, numpy, Python. Plain numbers and tensors."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }


def set_random_state(state: State) -> None:
    """Goes back to a state that `random_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


class RandomState(Callback):
    """Keeps the random numbers of every rank in the checkpoint, and goes back to them at the first step after resuming.

    Not before: making the loaders' iterators, and validating, draw random numbers, too.
    """

    def __init__(self) -> None:
        self._resumed: State | None = None

    def state_dict(self) -> State:
        """The states of all ranks, in their order; all ranks ask together."""
        return {"ranks": from_all_ranks(random_state())}

    def load_state_dict(self, state_dict: State) -> None:
        """Waits with what a checkpoint says until the first step."""
        self._resumed = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks that the checkpoint has as many ranks as there are.

        Raises:
            ValueError: when it has not: dropout could not go on as it would have.
        """
        if self._resumed is not None and len(self._resumed["ranks"]) != trainer.world_size:
            there = len(self._resumed["ranks"])
            raise ValueError(
                f"this checkpoint was written by {there} rank{'s' * (there > 1)}, and this run has {trainer.world_size}: the rows of a step would be "
                "the same, but not the model's random numbers. Resume with as many ranks"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Goes back to the random numbers of this rank."""
        if self._resumed is not None:
            set_random_state(self._resumed["ranks"][trainer.global_rank])
            self._resumed = None


class LogTrueStep(Callback):
    """Logs by the number of optimizer steps, and before a checkpoint of the step is written.

    Lightning's own count is one too high after resuming from the end of an epoch. And it logs a step after its checkpoint, so that a process that is
    killed between the two would resume behind a step that is nowhere. With `RunLogger`, which writes nothing twice, this comes before all that saves.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if all(isinstance(logger, RunLogger) for logger in trainer.loggers):
            trainer._logger_connector.update_train_step_metrics()


class WholeCheckpoints(CheckpointIO):
    """Gives Lightning the checkpoints of `perceiver.checkpoints`: folders that are complete or not there, and hold nothing that is run.

    Files that Lightning wrote by itself are read, too.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint, verifies it, and puts it in its place; the one that was there is kept beside it.

        Raises:
            OSError: when it cannot be written; what is there stays.
            ValueError: when something in it could only be kept as a pickle, or the place is an address.
        """
        checkpoints.check_local(Path(path))
        checkpoints.save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint, all of it verified before; its tensors are on the CPU, and nothing but tensors and plain data is read in any case.

        Raises:
            ValueError: when there is none, it is an address, or it is damaged, naming the file.
        """
        return checkpoints.read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, and the one before it."""
        checkpoints.remove(Path(path))


class RunCheckpoint(ModelCheckpoint):
    """Lightning's, for a run whose folder may be moved: which checkpoint is the best so far, and how good it is, is known there, too.

    Lightning keeps absolute paths, and forgets the figure when they changed; the first validation would then overwrite a better checkpoint.
    """

    def load_state_dict(self, state_dict: State) -> None:
        """Takes over what is known, with the places that the checkpoints have now, if the best one lies there, or there is none yet."""
        before, best = state_dict.get("dirpath"), state_dict.get("best_model_path")
        if before and self.dirpath and before != self.dirpath and (not best or (Path(self.dirpath) / Path(best).name).exists()):
            state_dict = moved(state_dict, str(before), str(self.dirpath))
        super().load_state_dict(state_dict)


def moved(value: Any, before: str, now: str) -> Any:
    """Plain data in which all paths within one folder, and that folder, are those of another."""
    if isinstance(value, dict):
        return {moved(key, before, now): moved(item, before, now) for key, item in value.items()}
    inside = isinstance(value, str) and (value == before or value.startswith(before + os.sep))
    return now + value.removeprefix(before) if inside else value


class RoomForCheckpoints(Callback):
    """Finds out before the first step whether checkpoints can be written: the folders take files, there is room, and nothing would be a pickle.

    Args:
        more: checkpoints that others than Lightning's callbacks write.
    """

    def __init__(self, *more: Path) -> None:
        self.more = more

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for each folder that a checkpoint is to go to, on the first rank; all ranks end when it finds something.

        Raises:
            OSError: when one cannot be written to, or has no room.
            ValueError: when something would be saved that only a pickle can hold, naming where it stands, or a folder is an address.
        """
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # by all ranks, as when it is saved
        found = None
        if trainer.is_global_zero:
            try:
                self._check(trainer, pl_module, content)
            except (OSError, ValueError) as error:
                found = error
        if (found := trainer.strategy.broadcast(found)) is not None:
            raise found

    def _check(self, trainer: Trainer, task: LightningModule, content: State) -> None:
        if isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints):
            pack(content, {})
        names: dict[Path, set[str]] = {}
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath:
                names.setdefault(Path(callback.dirpath), set()).add(f"{callback.filename or 'last'}{callback.FILE_EXTENSION}")
        for place in self.more:
            names.setdefault(place.parent, set()).add(place.name)
        for folder, kept in names.items():
            checkpoints.check_local(folder)
            checkpoints.check_room(folder, checkpoints.bytes_needed(task), kept)
