"""Where weights come from: a folder, a name on the hub, or a checkpoint of a training."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceiver.hub import fetch
from perceiver.model_folder import FORMAT, check_finite, read_config, read_weights, reading
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.published import from_published

PREFIX = "model."  # under which a task keeps its model


def source_weights(source: str | Path, semantics: str = "hf", **options: Any) -> dict[str, Tensor]:
    """The weights of a model under this library's names, without the model.

    Args:
        source: a checkpoint (`.ckpt`) that a training wrote; a folder that `save_pretrained` wrote, or in the format of transformers; or the
            name of either on the hub.
        semantics: of published weights; see `perceiver.from_pretrained`.
        options: of the download.

    Raises:
        ValueError: when there is no such source, it is damaged, or holds more than weights and plain data.
    """
    if Path(source).suffix == ".ckpt":
        return checkpoint_weights(Path(source))
    folder = fetch(source, **options)
    content = read_config(folder)
    if content.get("format") == FORMAT:
        return read_weights(folder, content.get("sha256"))
    try:
        config = PublishedConfig.read(content)
        return from_published(read_weights(folder), config, semantics)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def checkpoint_weights(file: Path) -> dict[str, Tensor]:
    """The model's weights in a checkpoint of Lightning, which holds the task's and the optimizer's, too.

    Raises:
        ValueError: when it is not there, damaged, holds more than plain data, or no model.
    """
    if not file.is_file():
        raise ValueError(f"there is no checkpoint {file}")
    with reading(file):
        content = torch.load(file, map_location="cpu", weights_only=True)
    state = content.get("state_dict") if isinstance(content, dict) else None
    weights = {name.removeprefix(PREFIX): weight for name, weight in (state or {}).items() if name.startswith(PREFIX)}
    if not weights:
        raise ValueError(f"{file} is no checkpoint of a task of this library: it holds no weights under {PREFIX!r}")
    check_finite(weights, file)
    return weights
