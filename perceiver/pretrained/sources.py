"""Where weights come from: a folder, a name on the hub, or a checkpoint of a training."""

from pathlib import Path
from typing import Any

from torch import Tensor

from perceiver import checkpoints
from perceiver.hub import fetch
from perceiver.model_folder import FORMAT, read_config, read_weights
from perceiver.pretrained.checkpoint import weights_of
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.published import from_published


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
    if (file := Path(source)).suffix == ".ckpt":
        return weights_of(checkpoints.read(file), file)
    folder = fetch(source, **options)
    content = read_config(folder)
    if content.get("format") == FORMAT:
        return read_weights(folder, content.get("sha256"))
    try:
        config = PublishedConfig.read(content)
        return from_published(read_weights(folder), config, semantics)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
