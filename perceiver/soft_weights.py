"""Soft weights: what each attention layer looked at, recorded beside the model without touching what it computes.

Attention's weights are soft weights: they change with the input. Here they are computed a second time from the inputs
of the chosen layers, so the outputs with and without recording are the same to the last bit, and nobody pays who does
not ask. Weights come split by modality and folded back to the places they belong to: rows and columns of a picture,
time of a sound, bytes of a text.

    with record_attention(model, ("encoder.cross",)) as maps:
        model(batch)
    maps[0].weights["image"]          # (b, n, rows, columns): the mean over heads
    maps[0].mass["image"]             # (b, n): how much of each latent's attention went to the picture

Letters: b batch, h heads, n queries, m context tokens.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.attention import Attention, Context, Rotate, attention_layers
from perceiver.softmax import soft_weights
from perceiver.tokens import Tokens

OverHeads = Callable[[Float[Tensor, "b h ..."]], Tensor]
T = TypeVar("T")
CHUNK = 256  # queries whose weights are held for all heads at a time


def mean_over_heads(weights: Float[Tensor, "b h ..."]) -> Float[Tensor, "b ..."]:
    """The mean of all heads."""
    return weights.mean(1)


def each_head(weights: Float[Tensor, "b h ..."]) -> Float[Tensor, "b h ..."]:
    """Every head by itself."""
    return weights


@dataclass(frozen=True)
class AttentionMass:
    """How the attention of one call of one layer was shared out between the modalities.

    Attributes:
        layer: name of the layer in the model.
        mass: by modality, (b, n) or (b, h, n): from 0 to 1, and 1 in sum over the modalities that the layer reads and a row has.
    """

    layer: str
    mass: dict[str, Tensor]


@dataclass(frozen=True)
class AttentionMap(AttentionMass):
    """The soft weights of one call of one layer.

    Attributes:
        layer: name of the layer in the model.
        mass: by modality, (b, n) or (b, h, n): the sum of its weights.
        weights: by modality, (b, n, *grid) or (b, h, n, *grid), zero in rows without it and behind its mask.
    """

    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One call of one attention layer: who asked, what was read, and what came of it.

    Attributes:
        layer: name of the layer in the model.
        attention: the layer.
        x: queries.
        context: one tensor, or tokens by modality.
        mask: of a tensor context.
        rotate: turned queries and keys by their positions.
        output: what the layer gave.
    """

    layer: str
    attention: Attention
    x: Tensor | Tokens
    context: Context
    mask: Tensor | None
    rotate: Rotate | None
    output: Tensor

    @classmethod
    def of(cls, layer: str, attention: Attention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> "Call":
        """From what a layer was called with."""
        given = inspect.signature(attention.forward).bind(*args, **kwargs).arguments
        return cls(layer, attention, given["x"], given["context"], given.get("mask"), given.get("rotate"), output)

    @property
    def grids(self) -> dict[str, tuple[int, ...]]:
        """How the tokens of each segment of the context lie."""
        if isinstance(self.context, Tensor):
            return {"context": (self.context.shape[1],)}
        return {name: tokens.grid for name, tokens in self.context.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """How many tokens each segment of the context has."""
        return {name: math.prod(grid) for name, grid in self.grids.items()}

    def project(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries, keys, values and mask, by head; see `Attention.project`."""
        return self.attention.project(self.x, self.context, self.mask, self.rotate)


@contextmanager
def record_attention(model: nn.Module, layers: tuple[str, ...] = ("",), *, over_heads: OverHeads = mean_over_heads) -> Iterator[list[AttentionMap]]:
    """Records the soft weights of each call of the chosen attention layers of a model, in the order of the calls.

    Args:
        layers: beginnings of names; ("encoder.cross",) chooses all that reads the inputs, ("",) every attention layer.
        over_heads: `mean_over_heads`, `each_head`, or any function of (b, h, ...).

    Raises:
        ValueError: when no layer has such a name.
    """
    with recording(model, layers, partial(_attention_map, over_heads=over_heads)) as records:
        yield records


@contextmanager
def record_mass(model: nn.Module, layers: tuple[str, ...] = ("",), *, over_heads: OverHeads = mean_over_heads) -> Iterator[list[AttentionMass]]:
    """Records how the attention of each call of the chosen layers is shared out between the modalities; no map is ever held.

    Args:
        layers: beginnings of names, as in `record_attention`.
        over_heads: `mean_over_heads`, `each_head`, or any function of (b, h, ...).

    Raises:
        ValueError: when no layer has such a name.
    """
    with recording(model, layers, partial(_attention_mass, over_heads=over_heads)) as records:
        yield records


@contextmanager
def recording(model: nn.Module, layers: tuple[str, ...], record: Callable[[Call], T]) -> Iterator[list[T]]:
    """Lists what `record` makes of each call of the chosen layers, in their order; outputs stay what they are.

    Raises:
        ValueError: when no layer has such a name.
    """
    records: list[T] = []

    def hook(layer: Attention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor, *, name: str) -> None:
        if torch._C._current_graph_task_id() != -1:
            return  # the backward pass computes this call again (`perceiver.recompute`): it was recorded when it was made
        with torch.no_grad():
            records.append(record(Call.of(name, layer, args, kwargs, output)))

    handles = [layer.register_forward_hook(partial(hook, name=name), with_kwargs=True) for name, layer in attention_layers(model, layers)]
    # A compiled block would run without the hooks that came after its compilation.
    compiled = any(module._compiled_call_impl is not None for module in model.modules())
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    try:
        with eager:
            yield records
    finally:
        for handle in handles:
            handle.remove()


def _attention_mass(call: Call, *, over_heads: OverHeads) -> AttentionMass:
    if not call.grids:
        return AttentionMass(call.layer, {})
    mass = call.attention.mass(call.x, call.context, call.mask, call.rotate)
    return AttentionMass(call.layer, {segment: over_heads(one) for segment, one in mass.items()})


def _attention_map(call: Call, *, over_heads: OverHeads) -> AttentionMap:
    if not call.grids:
        return AttentionMap(call.layer, {}, {})
    q, k, _, mask = call.project()
    rows = []
    for first in range(0, q.shape[-2], CHUNK):
        part = mask if mask is None or mask.shape[-2] == 1 else mask[..., first : first + CHUNK, :]
        rows.append(over_heads(soft_weights(q[..., first : first + CHUNK, :], k, part)))
    split = torch.cat(rows, -2).split(list(call.sizes.values()), -1)
    flat = dict(zip(call.grids, split, strict=True))
    weights = {segment: flat[segment].unflatten(-1, grid) for segment, grid in call.grids.items()}
    return AttentionMap(call.layer, {segment: w.sum(-1) for segment, w in flat.items()}, weights)
