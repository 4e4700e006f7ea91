"""Weights and configurations in a folder, read without running anything that lies in them."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG, WEIGHTS, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        ValueError: when it is not there, or not an object of JSON.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ValueError(f"{folder} has no {CONFIG}: give the folder of a model in transformers' format")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type(content).__name__}, not an object")
    return content


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Weights by name, from `model.safetensors`, or else from `pytorch_model.bin`, of which tensors alone are read.

    Raises:
        ValueError: when neither is there, it is damaged, holds anything but tensors, or one of them is not finite.
    """
    file = next((folder / name for name in (WEIGHTS, PICKLED) if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"{folder} has neither {WEIGHTS} nor {PICKLED}")
    try:
        weights = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"{file} is damaged, or holds more than weights: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()):
        raise ValueError(f"{file} holds something other than tensors by name")
    for name, weight in weights.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise ValueError(f"{name} in {file} holds NaN or infinity: the file is damaged, or the training had diverged")
    return dict(weights)


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """`config.json` and `model.safetensors`, as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.detach().contiguous() for name, weight in weights.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
