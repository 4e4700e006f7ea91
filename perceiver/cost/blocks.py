"""Blocks: which part of a model a module belongs to, and which modality.

They are the parts of `perceiver.parts`, but that models within a model, and layers in a list, are told apart.
"""

import re

from torch import nn

from perceiver.models import LateFusion
from perceiver.parts import part_of

BETWEEN = "between blocks"
WITHIN = re.compile(r"models\.([^.]+)\.(.*)")
LAYER = re.compile(r"blocks\.(\d+)\.")
ADAPTER = re.compile(r"(?:models\.[^.]+\.)?adapters\.([^.]+)")


def block_of(name: str) -> str:
    """The block that a parameter belongs to, by its name; or a module, by its name and a dot."""
    if found := WITHIN.match(name):
        return f"models.{found[1]}.{block_of(found[2])}"
    if found := LAYER.match(name):
        return f"blocks.{found[1]}"
    part = part_of(name)
    return BETWEEN if part in ("", "encoder") else part


def modality_of(model: nn.Module, block: str) -> str | None:
    """The modality that a block is there for; None where it serves several, or the output. Models that are fused late serve one each."""
    if isinstance(model, LateFusion):
        return block.split(".")[1] if block.startswith("models.") else None
    return found[1] if (found := ADAPTER.fullmatch(block)) else None


def kind_of(block: str) -> str:
    """Of what kind it is: `cross_attends`, `stacks`, `decoder`, `heads` and so on, within a model, too."""
    words = block.split(".")
    return words[2] if words[0] == "models" and len(words) > 2 else words[0]


def trunk_of(block: str) -> str:
    """The model within a model that it belongs to; "" where there is but one."""
    return ".".join(block.split(".")[:2]) if block.startswith("models.") else ""
