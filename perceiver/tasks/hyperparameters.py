"""Hyperparameters in a checkpoint: which code they name, and whether it may be run.

A task that was built from a configuration keeps that configuration, and `load_from_checkpoint` builds it again. A configuration is trusted and a
checkpoint is not, so a name in a checkpoint must stand for a part of this library or of PyTorch's, or for a module that the caller has imported.
"""

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from torch import nn

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
KEYS = ("hyper_parameters", "hparams", "module_arguments")  # under which Lightning finds them, or did once
MOST_BYTES = 1_000_000  # of a configuration
OURS = ("perceiver.", "torch.nn.", "torch.optim.")
PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def check_names(value: Any, place: str = "hyper_parameters") -> None:
    """Refuses hyperparameters that would import something, or call what is no part of a model.

    Args:
        value: as they stand in a checkpoint.
        place: where, for messages.

    Raises:
        ValueError: naming what they name, or that they have no end.
    """
    try:
        _check(value, place)
    except RecursionError as error:  # also of files that name themselves
        raise ValueError(f"{place} in this checkpoint is nested too deeply to be a configuration") from error


def _check(value: Any, place: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check(item, f"{place}.{key}")
    elif isinstance(value, list | tuple | set):
        for number, item in enumerate(value):
            _check(item, f"{place}.{number}")
    elif isinstance(value, str):
        if PATH.fullmatch(value) and not may_be_named(value, place.rpartition(".")[2]):
            raise ValueError(
                f"{place} in this checkpoint names {value!r}, which is no part of this library, and no module that you have imported: a checkpoint "
                "must not say what is run. If it is yours, import it before, or build the task yourself"
            )
        for text in (value, text_of(value, place)):
            _check(configuration(text, place), place)


def configuration(text: str, place: str) -> Any:
    """What a text becomes where a configuration is wanted; None where it stays a word.

    Raises:
        ValueError: when parts of it stand for others, which a few lines can make endless.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise ValueError(f"{place} in this checkpoint holds YAML with aliases (*): write out what they stand for")
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, dict | list) else None


def text_of(name: str, place: str) -> str:
    """What stands in the file that a word names; nothing where there is none, or where it is no text, such as weights.

    Raises:
        ValueError: when it is too long a text for a configuration.
    """
    try:
        if not Path(name).is_file():  # of a device there would be no end
            return ""
        with open(name, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError):
        return ""
    if b"\0" in content:
        return ""
    if len(content) > MOST_BYTES:
        raise ValueError(f"{place} in this checkpoint names {name!r}, a text of more than {MOST_BYTES:,} bytes, which is no configuration")
    return content.decode(errors="replace")


def may_be_named(path: str, key: str) -> bool:
    """Whether what stands under a key may be built: nothing is imported to find out."""
    if key == "_instantiator":
        return path == INSTANTIATOR
    if path.startswith(OURS):
        return True
    words = path.split(".")
    known = [end for end in range(1, len(words)) if ".".join(words[:end]) in sys.modules]
    if not known:
        return find_spec(words[0]) is None  # then it is a name such as table.csv
    found: Any = sys.modules[".".join(words[: known[-1]])]
    for word in words[known[-1] :]:
        if not hasattr(found, word):
            return not hasattr(found, "__path__")  # of a package, there may be more to import
        found = getattr(found, word)
    return isinstance(found, type) and issubclass(found, nn.Module)
