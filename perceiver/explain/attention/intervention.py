"""Intervention: what a model answers when its attention is another than its own.

Layers do as they always do, but for their soft weights, which a function changes. With weights left as they are, the answer is the same to rounding.

Letters: b rows, h heads, n queries, m keys.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.attention import Attention, attention_layers
from perceiver.explain.attention.passage import Weighed, following
from perceiver.explain.examples import Examples
from perceiver.explain.padding import grown, largest
from perceiver.explain.subject import Subject
from perceiver.soft_weights import Call, recording
from perceiver.softmax import soft_weights

Key = tuple[str, int]  # a layer, and which of its calls
Sizes = Mapping[str, int]  # keys of each segment, in order
Change = Callable[[Key, Tensor, Tensor, Sizes], Tensor]
MOST_NUMBERS = 2**27  # of the weights of one call, which an intervention must hold


@contextmanager
def reweighed(model: nn.Module, layers: tuple[str, ...], change: Change) -> Iterator[None]:
    """Gives layers other weights while it lasts.

    Args:
        layers: beginnings of names.
        change: from a call, its weights (b, h, n, m), which keys may be attended (the same shape, bool), and the sizes of its segments, to other
            weights.

    Raises:
        ValueError: when no layer has such a name; or, asked, when weights would not fit into memory.
    """
    calls: dict[str, int] = {}

    def hook(layer: Attention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor, *, name: str) -> Tensor:
        call = Call.of(name, layer, args, kwargs, output)
        q, k, v, mask = call.project()
        if q.shape[:-1].numel() * k.shape[-2] > MOST_NUMBERS:
            raise ValueError(f"{name} has {q.shape[:-1].numel() * k.shape[-2]:,} weights, and at most {MOST_NUMBERS:,} can be held: give fewer rows")
        key = (name, calls.get(name, 0))
        calls[name] = key[1] + 1
        weights = soft_weights(q, k, mask)
        allowed = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask.expand_as(weights)
        read = change(key, weights, allowed, call.sizes).to(v) @ v
        return layer.to_out(rearrange(read, "b h n w -> b n (h w)").to(output.dtype))

    handles: list[Any] = [model.register_forward_pre_hook(lambda *args: calls.clear())]
    handles += [layer.register_forward_hook(_named(hook, name), with_kwargs=True) for name, layer in attention_layers(model, layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def held(subject: Subject, examples: Examples, layers: tuple[str, ...]) -> Examples:
    """The same rows in batches that are so small that the weights of each call of these layers can be held; of one row, where not even those can.

    Args:
        subject: the model.
        examples: the rows.
        layers: beginnings of names.
    """
    widest = examples.widest()
    batch, _ = next(replace(widest, batch_size=len(widest)).batches(subject.device))
    with following(subject.model) as passage, torch.no_grad():
        subject.scores(batch)
    calls = [call for call in passage().calls if call.layer.startswith(layers)]
    most = max((call.attention.heads * call.output.shape[1] * sum(call.sizes.values()) for call in calls), default=1)
    return replace(examples, batch_size=max(1, min(examples.batch_size, MOST_NUMBERS // most)))


def _named(hook: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    return lambda *args: hook(*args, name=name)


def uniform(key: Key, weights: Float[Tensor, "b h n m"], allowed: Tensor, sizes: Sizes) -> Float[Tensor, "b h n m"]:
    """Every key alike."""
    return allowed / allowed.sum(-1, keepdim=True).clamp_min(1)


def permuted(generator: torch.Generator) -> Change:
    """The weights of each query, dealt out anew among the keys that it may attend to (Jain & Wallace 2019, "Attention is not Explanation")."""

    def change(key: Key, weights: Float[Tensor, "b h n m"], allowed: Tensor, sizes: Sizes) -> Float[Tensor, "b h n m"]:
        draw = torch.rand(weights.shape, generator=generator).to(weights.device)
        # The k-th allowed key in a random order gets the weight of the k-th allowed key in their own order.
        shuffled = draw.masked_fill(~allowed, 2).argsort(-1)
        own = (~allowed).to(torch.uint8).argsort(dim=-1, stable=True)
        return torch.zeros_like(weights).scatter(-1, shuffled, weights.gather(-1, own))

    return change


def constant(means: Mapping[Key, Mapping[str, Float[Tensor, "h n _"]]]) -> Change:
    """The same weights for all rows, shared out anew among the keys that a row has (Hassid et al. 2022, "How Much Does Attention Actually Attend?").

    Args:
        means: of each call and segment, over rows that differ. Keys beyond them get nothing.
    """

    def change(key: Key, weights: Float[Tensor, "b h n m"], allowed: Tensor, sizes: Sizes) -> Float[Tensor, "b h n m"]:
        own = [F.pad(means[key][name], (0, max(0, size - means[key][name].shape[-1])))[..., :size] for name, size in sizes.items()]
        mean = torch.cat(own, -1).expand_as(weights).masked_fill(~allowed, 0)
        total = mean.sum(-1, keepdim=True)
        return torch.where(total > 0, mean / total.clamp_min(1e-12), uniform(key, weights, allowed, sizes))

    return change


class MeanWeights:
    """The mean of the weights of each call over the rows of any number of batches, by segment, since in each batch they may be longer or shorter.

    Args:
        model: whose weights.
        layers: beginnings of names.
    """

    def __init__(self, model: nn.Module, layers: tuple[str, ...]) -> None:
        self.model = model
        self.layers = layers
        self.sums: dict[Key, dict[str, Tensor]] = {}
        self.rows: dict[Key, dict[str, Tensor]] = {}

    def add(self, ask: Callable[[], Any], rows: int) -> None:
        """Adds the weights of the first rows of a batch.

        Args:
            ask: asks the model about a batch.
            rows: of it that count.
        """
        with recording(self.model, self.layers, Weighed) as calls, torch.no_grad():
            ask()
        seen: dict[str, int] = {}
        for weighed in calls:
            key = (weighed.call.layer, seen.get(weighed.call.layer, 0))
            seen[key[0]] = key[1] + 1
            parts = list(weighed.sizes.values())
            weights = torch.cat([some[:rows].sum(0) for _, some in weighed.chunks()], 1).split(parts, -1)
            attended = weighed.valid[:rows].sum(0).float().split(parts, -1)
            for store, found in ((self.sums, weights), (self.rows, attended)):
                mine = store.setdefault(key, {})
                for name, part in zip(weighed.sizes, found, strict=True):
                    mine[name] = added(mine[name], part) if name in mine else part

    def __call__(self) -> dict[Key, dict[str, Float[Tensor, "h n _"]]]:
        """The mean over the rows that have each key, by call and segment."""
        return {key: {name: total / self.rows[key][name].clamp_min(1) for name, total in mine.items()} for key, mine in self.sums.items()}


def added(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two arrays whose last axes may differ: where one of them ends, the other is alone."""
    size = largest([a, b])
    return grown(a, size) + grown(b, size)
