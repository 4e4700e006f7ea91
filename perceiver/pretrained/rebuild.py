"""The same model with other numbers: more latents, longer texts, other classes, memory-saving options; its weights go with it."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from perceiver.description import build, describe
from perceiver.parts import chosen, part_of
from perceiver.pretrained.init_from import transfer
from perceiver.pretrained.load_table import LoadTable

M = TypeVar("M", bound=nn.Module)


def rebuild(model: M, changes: Mapping[str, Any]) -> tuple[M, LoadTable]:
    """A model that is built like another but for some arguments, with its weights, and the table of what became of them.

    Latents, position tables and queries are resized (`perceiver.pretrained.resize`); heads that change shape start anew.

        model, table = rebuild(model, {"encoder.num_latents": 64, "adapters.text.max_length": 4096, "head.out_features": 10})
        model, table = rebuild(model, {"encoder.run_block": perceiver.recompute})

    Args:
        model: stays as it is.
        changes: new arguments by their path: names of arguments, one in another, as in `model.arguments`.

    Raises:
        ValueError: when a path leads nowhere, or the changes cannot be built or have no sensible way to keep the weights. The
            message names them.
    """
    description = describe(model)
    for path, value in changes.items():
        place = description
        *within, last = path.split(".")
        for word in within:
            place = _inside(place).get(word, {})
        if last not in _inside(place):
            known = ", ".join(_inside(place)) or "no arguments"
            raise ValueError(f"{path!r} leads nowhere: {within[-1] if within else type(model).__name__} has {known}")
        _inside(place)[last] = describe(value)
    changed = build(description)
    weights = model.state_dict()
    resize = {part for part in map(part_of, weights) if chosen(part, ("latents", "adapters", "queries"))}
    table = transfer(changed, weights, new=("heads",), resize=sorted(resize), source=f"this {type(model).__name__}")
    changed.origin = None
    return changed.train(model.training), table


def _inside(place: Any) -> dict[str, Any]:
    """The arguments in a description, or the entries of a mapping."""
    if not isinstance(place, dict):
        return {}
    return place["args"] if "args" in place else place
