"""Weights by name: are they those of this model?"""

from collections.abc import Mapping

from torch import Tensor


def check_same_weights(model: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> None:
    """Compares names and shapes of a model's weights with those of a checkpoint.

    Raises:
        ValueError: in one line: how many are missing, unknown or of another shape, with the first of each.
    """
    differences = []
    for what, names in (("missing", model.keys() - checkpoint.keys()), ("unknown", checkpoint.keys() - model.keys())):
        if names:
            differences.append(f"{len(names)} weights {what} ({min(names)})")
    reshaped = sorted(name for name in model.keys() & checkpoint.keys() if model[name].shape != checkpoint[name].shape)
    if reshaped:
        name = reshaped[0]
        shapes = f"{tuple(checkpoint[name].shape)} in the checkpoint, {tuple(model[name].shape)} in the model"
        differences.append(f"{len(reshaped)} of another shape ({name}: {shapes})")
    if differences:
        raise ValueError(f"this checkpoint is of another model: {', '.join(differences)}")
