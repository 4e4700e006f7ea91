"""Passage: all attention of one forward pass in its order, from the reads of the inputs over the stacks between them to the answer.

Weights are computed a second time from saved queries and keys, some queries at a time: the model's own outputs are untouched, and no map of a
large input is ever held.

Letters: b rows, h heads, n queries (latents, or output queries), m keys, e head width, w head width of values.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from perceiver.attention import Attention
from perceiver.soft_weights import Call, recording
from perceiver.softmax import soft_weights

Kind = Literal["read", "self", "answer"]
NUMBERS = 2**24  # weights that are held at a time


def kind_of(call: Call) -> Kind:
    """A read of the inputs by the latents, latents among themselves, or the answer to output queries."""
    if not isinstance(call.context, Tensor):
        return "read"
    return "self" if call.context is call.x else "answer"


def label(layer: str) -> str:
    """How tables and pages call an attention layer."""
    return layer.removeprefix("model.").removesuffix(".attention")


def numbered(names: Sequence[str]) -> list[str]:
    """The same names, from the second time on with the number of the time: a, a (2), a (3)."""
    return [f"{name} ({names[:place].count(name) + 1})" if name in names[:place] else name for place, name in enumerate(names)]


class Weighed:
    """The soft weights of one call, some queries at a time.

    Args:
        call: that was recorded.
        most: queries that are looked at, evenly spaced; all when not given.

    Attributes:
        q: queries, (b, h, n, e).
        k: keys, (b, h, m, e).
        v: values, (b, h, m, w).
        mask: which keys each query may attend to; None = all.
        sizes: keys of each segment, in order.
    """

    def __init__(self, call: Call, most: int | None = None) -> None:
        self.call = call
        self.kind = kind_of(call)
        self.name = label(call.layer)
        self.sizes = call.sizes
        with torch.no_grad():
            self.q, self.k, self.v, self.mask = call.project()
        if most is not None and self.q.shape[-2] > most:
            chosen = torch.linspace(0, self.q.shape[-2] - 1, most, device=self.q.device).round().long()
            self.q = self.q[..., chosen, :]
            self.mask = self.mask if self.mask is None or self.mask.shape[-2] == 1 else self.mask[..., chosen, :]

    @property
    def valid(self) -> Bool[Tensor, "b m"]:
        """Keys that some query may attend to."""
        if self.mask is None:
            return torch.ones(len(self.k), self.k.shape[-2], dtype=torch.bool, device=self.k.device)
        return self.mask.flatten(1, 2).any(1).expand(len(self.k), -1)

    @cached_property
    def output_map(self) -> Float[Tensor, "h w d"]:
        """What the layer's last linear map does to each head."""
        width, heads, to_out = self.v.shape[-1], self.call.attention.heads, self.call.attention.to_out
        with torch.no_grad():
            one = torch.eye(heads * width, device=self.v.device, dtype=self.call.output.dtype)
            return (to_out(one) - to_out(torch.zeros_like(one))).float().unflatten(0, (heads, width))

    @cached_property
    def lengths(self) -> Float[Tensor, "b h m"]:
        """How long the vector is that each key gives to those who attend to it, head by head (Kobayashi et al. 2020, eq. 3)."""
        out = self.output_map
        products = torch.einsum("hwd,hvd->hwv", out, out)
        return torch.einsum("bhmw,hwv,bhmv->bhm", self.v.float(), products, self.v.float()).clamp_min(0).sqrt()

    def chunks(self) -> Iterator[tuple[slice, Float[Tensor, "b h _ m"]]]:
        """Which queries, and their weights."""
        b, h, n, _ = self.q.shape
        step = max(1, NUMBERS // max(1, b * h * self.k.shape[-2]))
        for first in range(0, n, step):
            some = slice(first, min(first + step, n))
            mask = self.mask if self.mask is None or self.mask.shape[-2] == 1 else self.mask[..., some, :]
            with torch.no_grad():
                yield some, soft_weights(self.q[..., some, :], self.k, mask)


@dataclass(frozen=True)
class Passage:
    """The calls of one forward pass of an encoder, and of the decoder behind it, if there is one.

    Attributes:
        calls: in their order.
    """

    calls: tuple[Call, ...]

    @property
    def reads(self) -> list[Call]:
        """Those that read the inputs."""
        return [call for call in self.calls if kind_of(call) == "read"]

    @property
    def reason(self) -> str:
        """Why this passage cannot be followed from the answer to the inputs; empty where it can."""
        kinds = [kind_of(call) for call in self.calls]
        if "read" not in kinds:
            return "no attention reads the inputs in this model"
        if kinds[0] != "read" or "answer" in kinds[: len(kinds) - kinds[::-1].index("read")]:
            return "this model does not read first and answer last"
        latents = {call.x.shape[1] for call in self.calls if isinstance(call.x, Tensor) and kind_of(call) != "answer"}
        return "" if len(latents) == 1 else "this model has more than one latent array"


@contextmanager
def following(model: nn.Module) -> Iterator[Callable[[], Passage]]:
    """Records the attention of a forward pass: a function that tells it. Calls that ask nothing, or read nothing, are left out."""
    attends = any(isinstance(module, Attention) for module in model.modules())
    empty: list[Call] = []
    with recording(model, ("",), lambda call: call) if attends else nullcontext(empty) as calls:
        yield lambda: Passage(tuple(call for call in calls if call.output.shape[1] and sum(call.sizes.values())))
