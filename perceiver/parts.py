"""Parts of a model by name, for loading, freezing and learning rates.

A weight belongs to one part, told by its name:

| part | what it is |
|---|---|
| `latents` | the latent array |
| `registers` | learned tokens that are read beside the inputs |
| `adapters.<modality>` | an adapter, with its map to the common width |
| `cross_attends.<i>` | a read of the inputs |
| `stacks.<i>.<layer>` | self-attention of the latents |
| `queries`, `queries.<task>` | what the output asks with |
| `decoder` | the read of the latents |
| `heads`, `heads.<task>` | from answers to outputs |

Parts are chosen by a beginning of their names: `stacks` is all layers of all stacks, `adapters` all adapters. `encoder` is
latents, registers, cross_attends and stacks together.
"""

import re
from collections.abc import Iterable, Mapping

from torch import nn

GROUPS = {"encoder": ("latents", "registers", "cross_attends", "stacks")}
PATTERNS = [
    (re.compile(pattern), part)
    for pattern, part in (
        (r"encoder\.latents\.", "latents"),
        (r"encoder\.registers\.", "registers"),
        (r"inputs\.(?:adapters|projections)\.([^.]+)\.", r"adapters.\1"),
        (r"encoder\.cross\.(\d+)\.", r"cross_attends.\1"),
        (r"encoder\.stacks\.(\d+)\.(\d+)\.", r"stacks.\1.\2"),
        (r"readouts\.([^.]+)\.queries\.", r"queries.\1"),
        (r"readouts\.([^.]+)\.head\.", r"heads.\1"),
        (r"queries\.([^.]+)\.", r"queries.\1"),  # the autoencoder's, by modality
        (r"queries\.", "queries"),
        (r"decoder\.", "decoder"),
        (r"heads\.([^.]+)\.", r"heads.\1"),
        (r"(?:head|norm|answer|mlp)\.", "heads"),
    )
]


def part_of(name: str) -> str:
    """The part that a weight belongs to; of a weight that is none of these, the first word of its name."""
    for pattern, part in PATTERNS:
        if found := pattern.match(name):
            return found.expand(part)
    return name.split(".")[0]


def chosen(part: str, names: Iterable[str]) -> bool:
    """Whether one of the names stands for the part."""
    wanted = [whole for name in names for whole in GROUPS.get(name, (name,))]
    return any(part == name or part.startswith(f"{name}.") for name in wanted)


def check_parts(names: Iterable[str], parts: Iterable[str]) -> None:
    """Checks that each name stands for some part.

    Raises:
        ValueError: naming the one that does not, and the parts that there are.
    """
    parts = sorted(set(parts))
    for name in names:
        if not any(chosen(part, [name]) for part in parts):
            raise ValueError(f"{name!r} is no part of this model, which has {', '.join(parts)}")


def parts_of(model: nn.Module) -> dict[str, str]:
    """The part of each parameter, by its name."""
    return {name: part_of(name) for name, _ in model.named_parameters()}


def depths(model: nn.Module) -> Mapping[str, int]:
    """How deep each part lies: adapters, latents and registers at 0, then each read and each layer of a stack in the order in which they first run,
    then queries and decoder, then heads."""
    found: dict[str, int] = {}
    encoder = getattr(model, "encoder", None)
    for read, stack in zip(getattr(encoder, "cross_attend", ()), getattr(encoder, "self_attend", ()), strict=True):
        layers = [f"stacks.{stack}.{layer}" for layer in range(len(encoder.stacks[stack]))]  # type: ignore[union-attr]
        for part in ([] if read is None else [f"cross_attends.{read}"]) + layers:
            found.setdefault(part, len(found) + 1)
    top = len(found)
    for part in set(parts_of(model).values()):
        if part not in found:
            found[part] = 0 if chosen(part, ["adapters", "latents", "registers"]) else top + (2 if chosen(part, ["heads"]) else 1)
    return found
