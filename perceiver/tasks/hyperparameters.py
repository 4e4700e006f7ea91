"""Hyperparameters in a checkpoint: which code they name, and whether it may be run.

A task that was built from a configuration keeps that configuration, and `load_from_checkpoint` builds it again. A configuration is trusted and a
checkpoint is not, so a name in a checkpoint must stand for a part of this library or of PyTorch's, or for a module that the caller has imported.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from torch import nn

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
KEYS = ("hyper_parameters", "hparams", "module_arguments")  # under which Lightning finds them, or did once
OURS = ("perceiver.", "torch.nn.", "torch.optim.")
PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def check_names(value: Any, place: str = "hyper_parameters") -> None:
    """Refuses hyperparameters that would import something, or call what is no part of a model.

    Args:
        value: as they stand in a checkpoint.
        place: where, for messages.

    Raises:
        ValueError: naming what they name.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_names(item, f"{place}.{key}")
    elif isinstance(value, list | tuple | set):
        for number, item in enumerate(value):
            check_names(item, f"{place}.{number}")
    elif isinstance(value, str):
        if PATH.fullmatch(value) and not may_be_named(value, place.rpartition(".")[2]):
            raise ValueError(
                f"{place} in this checkpoint names {value!r}, which is no part of this library, and no module that you have imported: a checkpoint "
                "must not say what is run. If it is yours, import it before, or build the task yourself"
            )
        for inside in configurations(value):
            check_names(inside, place)


def configurations(text: str) -> Iterator[Any]:
    """What a word becomes where a configuration is wanted: what is read out of it as YAML, and out of the file that it names."""
    texts = [text]
    with suppress(OSError, ValueError):  # names no file, or one that is no text
        texts.append(Path(text).read_text(encoding="utf-8"))
    for one in texts:
        with suppress(yaml.YAMLError):  # then it stays a word
            if isinstance(found := yaml.safe_load(one), dict | list):
                yield found


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
