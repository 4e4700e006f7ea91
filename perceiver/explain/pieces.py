"""Pieces: single tokens of the inputs, taken away or changed on their way from the adapters to the trunk.

A token is taken away by the model's own means: it may not be attended, as one behind a mask. Nothing is put in its place.

Letters: b rows of a batch, m tokens of a modality, M tokens of all modalities side by side, c channels.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from perceiver.explain.subject import Subject
from perceiver.tokens import Tokens

Segments = dict[str, Tokens]


@contextmanager
def changed(subject: Subject, change: Callable[[Segments, int], Segments]) -> Iterator[None]:
    """What the model reads while this lasts: what `change` makes of the tokens by modality, and the number of rows."""

    def hook(inputs: Any, args: Any, found: tuple[Segments, int]) -> tuple[Segments, int]:
        segments, size = found
        return change(segments, size), size

    handle = subject.model.inputs.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def keeping(subject: Subject, keep: Mapping[str, Bool[Tensor, "b m"]]) -> Iterator[None]:
    """Only these tokens may be attended, beside what the batch itself hides; of a modality that is not named, all."""

    def mask(segments: Segments, size: int) -> Segments:
        found = {}
        for name, tokens in segments.items():
            if name in keep:
                kept = keep[name].to(tokens.features.device)
                mine = kept if tokens.rows is None else kept[tokens.rows]
                tokens = replace(tokens, mask=mine if tokens.mask is None else tokens.mask & mine)
            found[name] = tokens
        return found

    with changed(subject, mask):
        yield


def tokens_of(subject: Subject, batch: Mapping[str, Tensor]) -> tuple[Segments, int]:
    """Tokens by modality of a batch, and its number of rows, as the adapters give them."""
    with torch.no_grad():
        segments, size = subject.model.inputs(batch)
    return segments, size


def attendable(segments: Segments, size: int) -> dict[str, Bool[Tensor, "b m"]]:
    """Which tokens each row of the batch may attend to, by modality."""
    return {name: tokens.attendable(size) for name, tokens in segments.items()}


def side_by_side(parts: Mapping[str, Shaped[Tensor, "b ..."]]) -> Shaped[Tensor, "b M"]:
    """One value a token, all modalities side by side."""
    return torch.cat([part.flatten(1) for part in parts.values()], 1)


def by_modality(values: Shaped[Tensor, "b M"], segments: Segments) -> dict[str, Shaped[Tensor, "b m"]]:
    """The opposite."""
    sizes = [tokens.features.shape[1] for tokens in segments.values()]
    return dict(zip(segments, values.split(sizes, 1), strict=True))
