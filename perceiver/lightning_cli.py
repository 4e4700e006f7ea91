"""Lightning's command line with the run folder on top, and its traps closed.

What is on the command line and in the config files decides, never what a checkpoint remembers (`--ckpt_path` is for resuming, and for testing what a
run saved); only `fit` writes `config.yaml`; an optimizer that is asked for has its own defaults.
"""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from perceiver import checkpoints
from perceiver.attention import Attention
from perceiver.explain import ModalityReport
from perceiver.fixed_attention import ConstantAttention, UniformAttention
from perceiver.guards import ExplainOutOfMemory, NameLostRows, SaveWhenPreempted, StopNonFinite, guards
from perceiver.resume import RunCheckpoint, WholeCheckpoints
from perceiver.run_folder import RunFolder
from perceiver.run_log import RunLogger

ABOUT = """Trains and tests what a configuration describes. Beside that: `perceiver cost CONFIG` says what a model costs before it is trained, and
`perceiver explain RUN_DIR` how a trained one combines its modalities; each has a --help of its own."""


class SaveFitConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run folder, for `fit` alone: that of a test would overwrite what the model was trained with."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class PerceiverCLI(LightningCLI):
    """Builds task, data and trainer from configs, keeps a run in one folder, and trains and tests the controls of a fit."""

    def __init__(self, args: Any = None) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=SaveFitConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_kwargs={"description": ABOUT},
            args=args,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises its errors, so that `main` can say them in one line."""
        return super().init_parser(exit_on_error=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run folder and the controls."""
        parser.add_argument("--run_dir", type=str, default="runs/default", help="Folder that the run writes to.")
        parser.add_argument(
            "--controls",
            type=dict[str, nn.Module],
            default={},
            help="Models by name that `fit` trains after the first, on the same data and steps, for the same table.",
        )
        parser.add_argument("--save_every", type=PositiveInt | None, default=None, help="Write last.ckpt every so many steps, too.")
        # What a mixture's datasets are for is said once, beside them.
        parser.link_arguments("data", "model.init_args.tasks", compute_fn=tasks_of, apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: a checkpoint's hyperparameters do not override what was asked for."""

    @property
    def run_folder(self) -> RunFolder:
        """The folder of this run."""
        return RunFolder(self._get(self.config, "run_dir"))

    def before_instantiate_classes(self) -> None:
        """Makes the run folder ready before anything is built, and finds the checkpoint that a fit goes on from."""
        self.prepare_run_folder()
        if self.subcommand == "fit" and (asked := self._get(self.config, "ckpt_path")):
            self.config[self.subcommand].ckpt_path = str(checkpoints.resumable(Path(asked)))

    @rank_zero_only
    def prepare_run_folder(self) -> None:
        """Makes the run folder ready, in one of the processes that train."""
        fresh = self.subcommand == "fit" and not self._get(self.config, "ckpt_path")
        if fresh and (aside := self.run_folder.set_aside()):
            rank_zero_info(f"what an earlier run left in {self.run_folder.path} is now in {aside}")
        self.run_folder.prepare()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that keeps everything in the run folder, unless the configuration says otherwise."""
        folder, config = self.run_folder, self._get(self.config_init, "trainer")
        if config["logger"] in (None, True):
            kwargs["logger"] = RunLogger(folder) if self.subcommand == "fit" else False
        callbacks = list(config["callbacks"] or [])
        if self.subcommand == "fit" and not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
            callbacks += checkpoint_callbacks(folder, self.model, self._get(self.config, "save_every"))
        kwargs["plugins"] = with_whole_checkpoints(config["plugins"])
        self.timer = Timer()
        callbacks.append(self.timer)
        callbacks += [guard for guard in guards(folder.checkpoints / "last.ckpt") if not any(isinstance(one, type(guard)) for one in callbacks)]
        return super().instantiate_trainer(default_root_dir=str(folder.path), callbacks=callbacks, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Leaves each data worker a core, where the model computes on the CPU: with more threads than cores a step takes three times as long."""
        if "tasks" not in inspect.signature(type(self.model)).parameters:
            self.model.hparams.pop("tasks", None)  # the link leaves it to all models alike, and a checkpoint would hand it to one that takes none
        workers = getattr(self.datamodule, "num_workers", 0)
        if isinstance(self.trainer.accelerator, CPUAccelerator) and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - workers))

    def after_fit(self) -> None:
        """Tests the model with its best weights, and reports; then trains and tests the controls, and reports again beside them."""
        folder = self.run_folder
        found = {"train/seconds": self.timer.time_elapsed("train"), "train/steps": self.trainer.global_step}
        self._add_results(found | {"parameters/model": float(size_of(self.model.model))})
        if not is_overridden("test_dataloader", self.datamodule):
            return
        self.trainer.test(self.model, self.datamodule, ckpt_path=best_weights(self.trainer), weights_only=True, verbose=False)
        self.after_test()
        controls = self._get(self.config_init, "controls") or {}
        for name, control in controls.items():
            self._add_results(self._control_metrics(name, control))
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if controls and isinstance(callback, ModalityReport) and self.trainer.is_global_zero:
                callback.publish(self.model, folder)

    def after_test(self) -> None:
        """Adds what the test found to the run's results."""
        self._add_results({key: float(value) for key, value in self.trainer.callback_metrics.items() if key.startswith("test/")})

    def _add_results(self, results: dict[str, float]) -> None:
        """Adds to the run's results, which all ranks have alike and one writes."""
        if self.trainer.is_global_zero:
            self.run_folder.update_metrics(results)

    def _control_metrics(self, name: str, control: nn.Module) -> dict[str, float]:
        """Trains a control like the model: the same task, data and seed, all that the trainer is told but for callbacks and loggers, and the same
        choice of weights. Its test accuracies.
        """
        rank_zero_info(f"training the control {name}")
        folder = self.run_folder.control(name)
        if self.trainer.is_global_zero:
            folder.set_aside()  # a resumed run trains its controls again
            folder.prepare()
        seed_everything(torch.initial_seed() % 2**32, verbose=False)
        task = self.model.with_model(control)
        timer = Timer()
        settings = self._trainer_settings() | {"enable_model_summary": False, "num_sanity_val_steps": 0, "default_root_dir": str(folder.path)}
        settings["logger"] = RunLogger(folder)
        settings["callbacks"] = [
            *checkpoint_callbacks(folder, task),
            timer,
            StopNonFinite(next(one.skip for one in self.trainer.callbacks if isinstance(one, StopNonFinite))),  # type: ignore[attr-defined]
            SaveWhenPreempted(None),
            ExplainOutOfMemory(),
            NameLostRows(),
        ]
        settings["plugins"] = with_whole_checkpoints(settings["plugins"])
        trainer = Trainer(**settings)
        trainer.fit(task, self.datamodule)
        seconds = timer.time_elapsed("train")  # before a checkpoint sets the timer, too
        trainer.test(task, self.datamodule, ckpt_path=best_weights(trainer), weights_only=True, verbose=False)
        results = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/accuracy")}
        if self.trainer.is_global_zero:
            folder.update_metrics(results | {"train/seconds": seconds})
        found = {key.replace("test/accuracy", f"test/baseline_{name}"): value for key, value in results.items()}
        return found | {f"parameters/{name}": float(size_of(control)), f"attends/{name}": float(attends(control))}

    def _trainer_settings(self) -> dict[str, Any]:
        """What the configuration tells the trainer, with objects of its own: a strategy and a precision belong to one trainer each."""
        parser = LightningArgumentParser()
        parser.add_lightning_class_args(Trainer, "trainer")
        asked = dict(self._get(self.config, "trainer")) | {"callbacks": None, "logger": None}
        return dict(parser.instantiate(parser.parse_object({"trainer": asked})).trainer)


def size_of(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def attends(model: nn.Module) -> bool:
    """Whether some of its attention depends on what is read."""
    return any(isinstance(module, Attention) and not isinstance(module, UniformAttention | ConstantAttention) for module in model.modules())


def tasks_of(data: LightningDataModule) -> dict[str, Any]:
    """What is learned on each dataset, if the datamodule says so."""
    return getattr(data, "tasks", {})


def checkpoint_callbacks(folder: RunFolder, task: LightningModule, save_every: int | None = None) -> list[RunCheckpoint]:
    """`best.ckpt`, by the figure that the task names as its `monitor`, and `last.ckpt`, after each epoch and every so many steps."""
    monitor, mode = getattr(task, "monitor", ("val/loss", "min"))
    found = [
        RunCheckpoint(folder.checkpoints, "best", monitor=monitor, mode=mode, save_on_train_epoch_end=False, enable_version_counter=False),
        RunCheckpoint(folder.checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False),
    ]
    if save_every:
        found.append(RunCheckpoint(folder.checkpoints, "last", every_n_train_steps=save_every, enable_version_counter=False))
    return found


def with_whole_checkpoints(plugins: Any) -> list[Any]:
    """Plugins of a trainer, and checkpoints that are whole or not there, unless one of them writes checkpoints in another way."""
    given = plugins if isinstance(plugins, list) else [plugins] if plugins else []
    return given if any(isinstance(plugin, CheckpointIO) for plugin in given) else [*given, WholeCheckpoints()]


def best_weights(trainer: Trainer) -> str | None:
    """The checkpoint with the best validation; None, which means the weights as they are, when there was no validation."""
    paths = [c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor and c.best_model_path]
    return paths[0] if paths else None
