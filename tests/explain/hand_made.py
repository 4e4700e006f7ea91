"""Models whose answers are known by hand: each modality is a bit, one-hot, and an absent one says nothing (1/2, 1/2)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters import Inputs
from perceiver.adapters.padded import OneToken
from perceiver.explain.examples import Examples
from perceiver.explain.subject import Subject

Beliefs = Mapping[str, Tensor]
SURE = 8.0


class HandMade(nn.Module):
    """Scores by hand, from what each modality says of each row."""

    def __init__(self, names: Sequence[str], logits: Callable[[Beliefs], Tensor], width: int = 2) -> None:
        super().__init__()
        self.inputs = Inputs({name: OneToken(width) for name in names}, width)
        self.logits = logits
        self.width = width
        self.asked = 0

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        segments, size = self.inputs(batch)
        self.asked += size
        beliefs = {name: torch.full((size, self.width), 1 / self.width) for name in self.inputs.adapters}
        for name, tokens in segments.items():
            rows = torch.arange(size) if tokens.rows is None else tokens.rows
            beliefs[name][rows] = tokens.features[:, 0]
        return self.logits(beliefs)


def xor(said: Beliefs) -> Tensor:
    """Sure of the exclusive or of `a` and `b`; with one of them, as wise as with none."""
    a, b = said["a"], said["b"]
    return SURE * torch.stack([a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1], a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0]], 1)


def of_a(said: Beliefs) -> Tensor:
    """Believes `a` and nothing else."""
    return SURE * said["a"]


def vote(said: Beliefs) -> Tensor:
    """Adds up what all modalities say."""
    return SURE * sum(said.values(), start=torch.zeros(()))


def first_of_two(said: Beliefs) -> Tensor:
    """Believes `a`, and `b` where there is no `a`."""
    return SURE * (2 * said["a"] + said["b"])


def rows_of(bits: Sequence[Sequence[int]], names: Sequence[str], label: Callable[..., int]) -> list[dict[str, Tensor]]:
    """One row for each combination of bits, labelled by them."""
    return [
        {name: F.one_hot(torch.tensor(bit), 2).float() for name, bit in zip(names, some, strict=True)} | {"target": torch.tensor(label(*some))}
        for some in bits
    ]


def every_pair(times: int) -> list[tuple[int, ...]]:
    """All pairs of bits, each so many times."""
    return list(product((0, 1), repeat=2)) * times


def examples(rows: Sequence[dict[str, Tensor]], names: Sequence[str], batch_size: int = 100) -> Examples:
    spare = next((row for row in rows if any(name in row for name in names)), {})
    return Examples(tuple(rows), tuple(names), (), "toy", spare, batch_size)


def subject(names: Sequence[str], logits: Callable[[Beliefs], Tensor], **options: int) -> Subject:
    return Subject(HandMade(names, logits, **options), datasets=("toy",))


def xor_world(times: int = 11) -> tuple[Subject, Examples]:
    """The label needs both `a` and `b`, and the model knows."""
    return subject("ab", xor), examples(rows_of(every_pair(times), "ab", lambda a, b: a ^ b), "ab")


def a_world(times: int = 11) -> tuple[Subject, Examples]:
    """The label is `a`, and `b` is noise; the model knows."""
    return subject("ab", of_a), examples(rows_of(every_pair(times), "ab", lambda a, b: a), "ab")


def both_world(times: int = 22, model: Callable[[Beliefs], Tensor] = first_of_two, names: str = "ab") -> tuple[Subject, Examples]:
    """The label is in each modality."""
    bits = [(bit,) * len(names) for bit in (0, 1)] * times
    return subject(names, model), examples(rows_of(bits, names, lambda *said: said[0]), names)
