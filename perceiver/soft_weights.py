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

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.attention import Attention, attention_layers
from perceiver.softmax import soft_weights

OverHeads = Callable[[Float[Tensor, "b h ..."]], Tensor]
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


@contextmanager
def record_attention(model: nn.Module, layers: tuple[str, ...] = ("",), *, over_heads: OverHeads = mean_over_heads) -> Iterator[list[AttentionMap]]:
    """Records the soft weights of each call of the chosen attention layers of a model, in the order of the calls.

    Args:
        layers: beginnings of names; ("encoder.cross",) chooses all that reads the inputs, ("",) every attention layer.
        over_heads: `mean_over_heads`, `each_head`, or any function of (b, h, ...).

    Raises:
        ValueError: when no layer has such a name.
    """
    with _recording(model, layers, partial(_attention_map, over_heads=over_heads)) as records:
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
    with _recording(model, layers, partial(_attention_mass, over_heads=over_heads)) as records:
        yield records


@contextmanager
def _recording(model: nn.Module, layers: tuple[str, ...], record: Callable[..., Any]) -> Iterator[list[Any]]:
    """Calls `record` with the name and the inputs of each call of the chosen layers, and lists what it gives."""
    records: list[Any] = []

    def hook(layer: Attention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor, *, name: str) -> None:
        if torch._C._current_graph_task_id() != -1:
            return  # the backward pass computes this call again (`perceiver.recompute`): it was recorded when it was made
        with torch.no_grad():
            records.append(record(name, layer, *args, **kwargs))

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


def _grids(context: Any) -> dict[str, tuple[int, ...]]:
    """How the tokens of each segment of a context lie."""
    return {"context": (context.shape[1],)} if isinstance(context, Tensor) else {name: tokens.grid for name, tokens in context.items()}


def _attention_mass(
    name: str, layer: Attention, x: Tensor, context: Any, mask: Tensor | None = None, rotate: Any = None, *, over_heads: OverHeads
) -> AttentionMass:
    if not _grids(context):
        return AttentionMass(name, {})
    return AttentionMass(name, {segment: over_heads(mass) for segment, mass in layer.mass(x, context, mask, rotate).items()})


def _attention_map(
    name: str, layer: Attention, x: Tensor, context: Any, mask: Tensor | None = None, rotate: Any = None, *, over_heads: OverHeads
) -> AttentionMap:
    if not (grids := _grids(context)):
        return AttentionMap(name, {}, {})
    q, k, _, mask = layer.project(x, context, mask, rotate)
    rows = []
    for first in range(0, q.shape[-2], CHUNK):
        part = mask if mask is None or mask.shape[-2] == 1 else mask[..., first : first + CHUNK, :]
        rows.append(over_heads(soft_weights(q[..., first : first + CHUNK, :], k, part)))
    split = torch.cat(rows, -2).split([torch.Size(grid).numel() for grid in grids.values()], -1)
    flat = dict(zip(grids, split, strict=True))
    weights = {segment: flat[segment].unflatten(-1, grid) for segment, grid in grids.items()}
    return AttentionMap(name, {segment: w.sum(-1) for segment, w in flat.items()}, weights)
