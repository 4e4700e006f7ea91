"""Published models out of folders in transformers' format, and back into them.

The folder of a model on the hub, or one that `save_pretrained` of transformers wrote, holds `config.json` and the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from perceiver.model_folder import CONFIG, NoLargerThan, read_config, read_weights, write
from perceiver.models.model import Model
from perceiver.pretrained.architectures import architecture
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import semantics as semantics_of
from perceiver.weights import check_same_weights

KERNEL = "perceiver.input_preprocessor.convnet.conv.weight"


def load_published(folder: str | Path, semantics: str = "hf") -> Model:
    """A model in evaluation mode, from a folder in transformers' format.

    Args:
        folder: holds `config.json`, and `model.safetensors` or `pytorch_model.bin`.
        semantics: `hf`: the numbers of transformers; `deepmind`: those of the original, where the two differ.

    Raises:
        ValueError: when the folder does not hold one of the published architectures, whole and finite. Nothing is loaded then.
    """
    folder = Path(folder)
    content = read_config(folder)
    weights = read_weights(folder)
    try:
        config = PublishedConfig.read(content)
        kind = architecture(config.architecture)
        with torch.device("meta"), NoLargerThan(weights):
            empty = kind.build(config, semantics_of(semantics))
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{folder / CONFIG}: {' '.join(str(error).split())[:500]}") from error
    weights = from_published(weights, config, semantics)
    try:
        check_same_weights(empty.state_dict(), weights)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    model = kind.build(config, semantics_of(semantics))
    model.load_state_dict(weights)
    model.origin = {"published": asdict(config), "semantics": semantics}
    return model.eval()


def save_published(model: nn.Module, folder: str | Path) -> None:
    """Writes a model that `load_published` made as transformers reads it, bit for bit what was read when nothing was trained.

    Raises:
        ValueError: when the model did not come from there, or has other parts now.
    """
    origin = getattr(model, "origin", None)
    if not origin or "published" not in origin:
        raise ValueError(f"{type(model).__name__} was not loaded from a published model, so transformers has no class for it")
    config = PublishedConfig.of(origin["published"])
    kind = architecture(config.architecture)
    with torch.device("meta"):
        theirs = kind.build(config, semantics_of(origin["semantics"]))
    try:
        check_same_weights(theirs.state_dict(), model.state_dict())
    except ValueError as error:
        raise ValueError(f"this is no {config.architecture} any more: {error}. Write it with save_pretrained") from error
    weights = to_published(model.state_dict(), config, origin["semantics"])
    numbers = asdict(config)
    labels = [f"LABEL_{i}" for i in range(config.num_labels)]
    del numbers["architecture"], numbers["num_labels"]
    content = {
        "model_type": "perceiver",
        "architectures": [config.architecture],
        **numbers,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    write(Path(folder), content, weights)


def from_published(weights: Mapping[str, Tensor], config: PublishedConfig, semantics: str) -> dict[str, Tensor]:
    """Transformers' weights under our names; a name that is not known stays."""
    names = architecture(config.architecture).names(config)
    return {names.get(key, key): turned(key, weight, semantics) for key, weight in weights.items()}


def to_published(weights: Mapping[str, Tensor], config: PublishedConfig, semantics: str) -> dict[str, Tensor]:
    """Our weights under transformers' names."""
    theirs = {ours: name for name, ours in architecture(config.architecture).names(config).items()}
    return {theirs[key]: turned(theirs[key], weight, semantics) for key, weight in weights.items()}


def turned(name: str, weight: Tensor, semantics: str) -> Tensor:
    """Rows and columns of the convolution's kernels changed places when DeepMind's weights were converted for transformers."""
    return weight.transpose(2, 3) if semantics == "deepmind" and name == KERNEL else weight
