"""Checkpoints of a training as models, and models as checkpoints."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perceiver import checkpoints
from perceiver.description import describe
from perceiver.model_folder import check_finite, model_of

PREFIX = "model."  # under which a task keeps its model
DESCRIPTION, ORIGIN = "perceiver_model", "perceiver_origin"  # entries of a checkpoint, beside Lightning's


def described(model: nn.Module) -> dict[str, Any]:
    """What a task adds to its checkpoints, so that they can be read without its configuration; nothing for a model with code of its own."""
    try:
        return {DESCRIPTION: describe(model), ORIGIN: getattr(model, "origin", None)}
    except ValueError:
        return {}


def load_checkpoint(file: str | Path) -> nn.Module:
    """The model of a checkpoint that a task of this library wrote, in evaluation mode.

    Raises:
        ValueError: when it cannot be read, does not say what its model was built with, or says it of another model than its weights are of.
    """
    content = checkpoints.read(Path(file))
    if DESCRIPTION not in content:
        raise ValueError(
            f"{file} does not say what its model was built with: it has code of its own, or is older than that. "
            "Build the model, and give it the weights with perceiver.pretrained.InitFrom"
        )
    return model_of(content[DESCRIPTION], content.get(ORIGIN), weights_of(content, Path(file)), Path(file))


def save_checkpoint(model: nn.Module, file: str | Path) -> None:
    """Writes a model as a checkpoint in one file, that `test` and `predict` take as `--ckpt_path`. It holds no training that could be resumed."""
    content = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": version("lightning"),
        "state_dict": {f"{PREFIX}{name}": weight for name, weight in model.state_dict().items()},
        **described(model),
    }
    part = Path(f"{file}.part")
    torch.save(content, part)
    os.replace(part, file)


def weights_of(content: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """The model's weights in the content of a checkpoint.

    Raises:
        ValueError: when there are none, or one of them is not finite.
    """
    state = content.get("state_dict") or {}
    weights = {name.removeprefix(PREFIX): weight for name, weight in state.items() if name.startswith(PREFIX)}
    if not weights:
        raise ValueError(f"{file} is no checkpoint of a task of this library: it holds no weights under {PREFIX!r}")
    check_finite(weights, file)
    return weights
