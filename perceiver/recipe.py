"""A recipe, built and not run: the task and the data that a configuration describes."""

import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything

from perceiver.lightning_cli import PerceiverCLI
from perceiver.reason import reason


class RecipeCLI(PerceiverCLI):
    """Builds what `fit` would train, and stops: no run folder, no trainer, no data."""

    def before_instantiate_classes(self) -> None:
        """Makes no folder."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """No trainer: one may ask for hardware that this machine has not."""

    def after_instantiate_classes(self) -> None:
        """Sets nothing."""

    def _set_seed(self) -> None:
        """Sets the seed of the run without a word."""
        seed = self._get(self.config, "seed_everything")
        if seed is not False:
            seed_everything(None if seed is True else seed, workers=True, verbose=False)

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def build_recipe(file: Path, overrides: Sequence[str] = ()) -> tuple[LightningModule, LightningDataModule]:
    """The task, with a fresh model, and the datamodule, which has not opened its data.

    Where a model's outputs depend on the data, as the number of classes of `perceiver.tasks.Multitask` does, the datasets are asked for it: then a
    folder of pictures or a table must be there.

    Args:
        file: a configuration as `perceiver fit --config` takes it, such as one of `configs/`, or the `config.yaml` of a run folder.
        overrides: more words of the command line, such as `["--model.init_args.learning_rate", "1e-4"]`.

    Raises:
        ValueError: when there is no such file, it is no YAML, it has no model, or something in it cannot be built. The file is named.
    """
    check_recipe(file)
    try:
        with warnings.catch_warnings():
            # Lightning takes words that are passed in, beside those of the process, for a mistake.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            cli = RecipeCLI(["fit", "--config", str(file), *overrides])
    except (ArgumentError, ValueError, OSError) as error:
        raise ValueError(f"{file}: {reason(error)}") from error
    return cli.model, cli.datamodule


def check_recipe(file: Path) -> None:
    """Refuses a file that cannot be a recipe, before anything is built.

    Raises:
        ValueError: naming it.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}): give a configuration, such as configs/quickstart.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict) or "class_path" not in content["model"]:
        raise ValueError(f"{file} describes no model: a configuration has `model: {{class_path: ...}}`, as configs/quickstart.yaml has")
