"""A model in a folder: what it was built with in `config.json`, its weights in `model.safetensors`. Read without running anything that lies there.

`config.json` carries the version of this format and a checksum of the weights, and is written last: a folder is whole, or it is
no model. Folders in the format of transformers are read with the same functions (`perceiver.pretrained`).
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from perceiver.checkpoints import single_file
from perceiver.checkpoints.manifest import checksum
from perceiver.description import build, describe
from perceiver.weights import check_same_weights

CONFIG, WEIGHTS, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"
FORMAT, VERSION = "perceiver-lightning", 1
MOST_NUMBERS = 100_000_000  # in one tensor that is no weight, such as a table of places


def save_model(model: nn.Module, folder: Path) -> None:
    """Writes a model that can be built again from its description.

    Raises:
        ValueError: when it cannot: a part cannot be described, or was changed after it was built in a way that the description does
            not tell. Nothing is written then.
    """
    description = describe(model)
    weights = model.state_dict()
    try:
        check_same_weights(build(description).state_dict(), weights)
    except ValueError as error:
        raise ValueError(
            f"{type(model).__name__} was changed after it was built, and what it was built with does not make it again: "
            f"{str(error).removeprefix('this checkpoint is of another model: ')}"
        ) from error
    write(folder, {"format": FORMAT, "format_version": VERSION, "origin": getattr(model, "origin", None), "model": description}, weights)


def load_model(folder: Path) -> nn.Module:
    """A model that `save_model` wrote, in evaluation mode.

    Raises:
        ValueError: when the folder is damaged, of a newer version, names classes that are not known, or holds other weights
            than the model has. Nothing is loaded then.
    """
    content = read_config(folder)
    if content.get("format") != FORMAT:
        raise ValueError(f"{folder / CONFIG} says format {content.get('format')!r}, and this is {FORMAT!r}")
    version = content.get("format_version")
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(f"{folder} has version {version} of this format, and this library reads up to {VERSION}: update perceiver-lightning")
    return model_of(content.get("model"), content.get("origin"), read_weights(folder, content.get("sha256")), folder / CONFIG)


def model_of(description: Any, origin: Any, weights: Mapping[str, Tensor], file: Path) -> nn.Module:
    """The model of a description and weights that came from a file, of which nothing is believed; in evaluation mode, in the numbers of its weights.

    Args:
        description: as `perceiver.description.describe` gives it.
        origin: what the model keeps of where it came from; an object, or None.
        weights: by name.
        file: they came from, for errors.

    Raises:
        ValueError: naming the file, when the description makes no module, one with other weights, or one that is larger than its weights.
    """
    try:
        if not isinstance(origin, dict | None):
            raise ValueError(f"its origin is {str(origin)[:80]!r}, and no object")
        with NoLargerThan(weights):
            model = build(description)
        if not isinstance(model, nn.Module):
            raise ValueError("it describes no module")
        check_same_weights(model.state_dict(), weights)
        if strange := [name for name, _ in model.named_parameters() if not weights[name].is_floating_point()]:
            raise ValueError(f"{strange[0]} is {weights[strange[0]].dtype}, and a weight is a floating-point number")
    except (ValueError, RecursionError, RuntimeError, MemoryError, OverflowError) as error:  # or more memory than there is
        raise ValueError(f"{file}: {' '.join(str(error).split())[:500]}") from error
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(weights[name].dtype)
    model.load_state_dict(weights)
    if origin is not None:
        setattr(model, "origin", origin)  # noqa: B010 - which a module takes for a tensor otherwise
    return model.eval()


class NoLargerThan(TorchFunctionMode):
    """Stops a model that is being built when it becomes larger than the weights that it is for: a description may ask for any number of anything.

    Args:
        weights: by name.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.steps = 10_000 + 100 * len(weights)  # a parameter takes ten or so
        self.most = max([MOST_NUMBERS, *(weight.numel() for weight in weights.values())])

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls a function of PyTorch, unless it is one too many, or makes too large a tensor."""
        self.steps -= 1
        # These two are given the numbers themselves, which are there already.
        makes = function not in (torch.tensor, torch.as_tensor) and not any(isinstance(argument, Tensor) for argument in args)
        asked = [size for argument in args if makes and (size := numbers_in(argument)) is not None]
        if self.steps >= 0 and max(asked, default=0) <= self.most:
            found = function(*args, **(kwargs or {}))
            if not (makes and isinstance(found, Tensor) and found.numel() > self.most):  # memory that nobody has written to yet is none
                return found
        raise ValueError("it describes a model that is larger than its weights")


def numbers_in(argument: Any) -> int | float | None:
    """How many numbers a tensor has of which an argument is the size; None when it is none."""
    if isinstance(argument, int | float):
        return argument
    sized = isinstance(argument, tuple | list) and all(isinstance(size, int) for size in argument)
    return math.prod(argument) if sized else None


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        ValueError: when it is not there, or not an object of JSON.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ValueError(f"{folder} has no {CONFIG}: give the folder of a model, one of this library's or one in the format of transformers")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type(content).__name__}, not an object")
    return content


def read_weights(folder: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Weights by name, from `model.safetensors`, or else from `pytorch_model.bin`, of which tensors alone are read.

    Args:
        folder: holds one of the two.
        sha256: what `model.safetensors` must sum to, where it is known.

    Raises:
        ValueError: when neither is there, it is damaged, holds anything but tensors, or one of them is not finite.
    """
    file = next((folder / name for name in (WEIGHTS, PICKLED) if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"{folder} has neither {WEIGHTS} nor {PICKLED}")
    if sha256 is not None and checksum(file) != sha256:
        raise ValueError(f"{file} is damaged: its SHA-256 is not the one in {CONFIG}. Fetch or write it again")
    weights = load_safetensors(file) if file.suffix == ".safetensors" else single_file.load_file(file)
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()):
        raise ValueError(f"{file} holds something other than tensors by name")
    check_finite(weights, file)
    return dict(weights)


def load_safetensors(file: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        ValueError: when the file is damaged.
    """
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def check_finite(weights: Mapping[str, Tensor], file: Path) -> None:
    """Checks that no weight is NaN or infinite.

    Raises:
        ValueError: naming the first that is.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise ValueError(f"{name} in {file} holds NaN or infinity: the file is damaged, or the training had diverged")


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """`model.safetensors`, and then `config.json`; each whole, or as it was before.

    In this library's own format, `config.json` gets the checksum of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{WEIGHTS}.part"
    save_file({name: weight.detach().contiguous() for name, weight in weights.items()}, part, metadata={"format": "pt"})
    summed = {**config, "sha256": checksum(part)} if config.get("format") == FORMAT else config
    os.replace(part, folder / WEIGHTS)
    part = folder / f"{CONFIG}.part"
    part.write_text(json.dumps(summed, indent=2, allow_nan=False) + "\n")
    os.replace(part, folder / CONFIG)
