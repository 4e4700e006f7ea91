"""Passes: a model run forward and backward once, on twins that compute nothing, with closed forms on one side and the counter on the other."""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from perceiver.cost.counter import counting
from perceiver.cost.discovery import Ready, discovering
from perceiver.cost.layers import Read, Term
from perceiver.cost.twin import twins
from perceiver.cost.work import Work


@dataclass(frozen=True)
class Pass:
    """What one pass was found to compute.

    Attributes:
        terms: by closed forms.
        reads: its calls of attention layers.
        counted: by the counter.
        tokens: number of input tokens of a row, by modality.
        widths: of the tokens as they reach the trunk, by modality.
    """

    terms: list[Term]
    reads: list[Read]
    counted: Work
    tokens: dict[str, int]
    widths: dict[str, int]

    @property
    def formed(self) -> bool:
        """Whether every token was formed, and once: then there is no other way to run it."""
        projected = Counter(term.module for term in self.terms if term.kind == "projection")
        return not any(read.in_parts for read in self.reads) and max(projected.values(), default=1) == 1


def run_pass(model: nn.Module, batch: Mapping[str, Tensor], ready: Ready) -> Pass:
    """A pass forward, and backward from the sum of all outputs to whatever learns.

    Args:
        model: stays as it is.
        batch: stays as it is.
        ready: whether tokens stay in parts, see `perceiver.cost.discovery.discovering`.
    """
    twin, entries = twins(model, batch)
    with torch.enable_grad(), discovering(twin, ready) as found, counting() as counter:
        outputs = [out for out in tree_leaves(twin(entries)) if isinstance(out, Tensor) and out.is_floating_point()]
        forward = counter.get_total_flops()
        found.again = True
        if learned := [out.sum() for out in outputs if out.requires_grad]:
            torch.stack(learned).sum().backward()
    counted = Work(forward, counter.get_total_flops() - forward)
    return Pass(found.terms, found.reads, counted, copy.copy(found.tokens), copy.copy(found.widths))
