"""A pretrained model in a configuration: in place of a class, with what shall be different."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from perceiver.description import build
from perceiver.models.model import Model
from perceiver.pretrained import LoadTable, from_pretrained, rebuild


def pretrained_model(source: str, changes: Mapping[str, Any] | None = None, semantics: str | None = None) -> Model:
    """A model with its weights; what a change did to them is printed.

        model:
          class_path: perceiver.tasks.pretrained_model
          init_args: {source: deepmind/vision-perceiver-fourier, changes: {num_classes: 10}}

    Args:
        source: a folder, a name on the hub, or a checkpoint; see `perceiver.from_pretrained`.
        changes: arguments that the model shall have instead, by their path; see `perceiver.pretrained.rebuild`. Classes and functions are
            named as in a saved model's `config.json`: `encoder.run_block: {name: perceiver.blocks.recompute}`.
        semantics: whose numbers a published model follows.

    Raises:
        ValueError: when it cannot be loaded, or changed in this way.
    """
    model = from_pretrained(source, semantics)
    if not changes:
        return model
    changed, table = rebuild(model, {path: build(value) for path, value in changes.items()})
    rank_zero_info(str(LoadTable(source, table.weights)))
    return changed
