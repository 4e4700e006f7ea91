"""Removal: how the probability of an answer falls as tokens are taken away in an order, and rises as they are given back.

Tokens are taken away by the model's own means: they may not be attended. Nothing is put in their place.

Letters: b rows, M tokens of all modalities side by side, f fractions.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perceiver.explain.pieces import Segments, attendable, by_modality, keeping, side_by_side, tokens_of
from perceiver.explain.subject import Batch, Subject

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
AOPC = (0.01, 0.05, 0.1, 0.2, 0.5)  # DeYoung et al. 2020, "ERASER", section 4.2


@dataclass(frozen=True)
class Curves:
    """The probability of each row's answer, from all tokens on.

    Attributes:
        whole: with all tokens.
        without: when that share of the most relevant tokens is gone.
        alone: when that share of the most relevant tokens is all there is; without any token at the very beginning.
    """

    whole: Float[Tensor, " b"]
    without: Float[Tensor, "b f"]
    alone: Float[Tensor, "b f"]

    @property
    def comprehensiveness(self) -> Float[Tensor, " b"]:
        """What is lost without the most relevant tokens, mean over shares (ERASER, eq. 1). High is good."""
        return self.whole - self.without[:, [FRACTIONS.index(f) for f in AOPC]].mean(1)

    @property
    def sufficiency(self) -> Float[Tensor, " b"]:
        """What is lost when only the most relevant tokens are left (ERASER, eq. 2). Low is good."""
        return self.whole - self.alone[:, [FRACTIONS.index(f) for f in AOPC]].mean(1)

    @property
    def deletion(self) -> Float[Tensor, " b"]:
        """Area under the falling curve (Petsiuk et al. 2018, "RISE", section 4.2). Low is good."""
        return area(torch.cat([self.whole[:, None], self.without], 1))

    @property
    def insertion(self) -> Float[Tensor, " b"]:
        """Area under the rising curve, which begins where the other ends. High is good."""
        return area(torch.cat([self.without[:, -1:], self.alone], 1))


def area(curve: Float[Tensor, "b _"]) -> Float[Tensor, " b"]:
    """Under a curve over 0 and the fractions."""
    return torch.trapezoid(curve, torch.tensor([0.0, *FRACTIONS], dtype=curve.dtype), dim=1)


def ranks(relevance: Float[Tensor, "b M"], valid: Bool[Tensor, "b M"]) -> Int[Tensor, "b M"]:
    """The place of each token in its row's order, 0 for the most relevant; those that are not there come last."""
    return relevance.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def curves(subject: Subject, batch: Batch, chosen: Int[Tensor, " b"], orders: list[Int[Tensor, "b M"]]) -> list[Curves]:
    """For each order, what becomes of the probability of a class of each row.

    Args:
        subject: the model.
        batch: the rows.
        chosen: the class of each row.
        orders: `ranks` of all tokens, one for each explanation.
    """
    segments, size = tokens_of(subject, batch)
    valid = side_by_side(attendable(segments, size))
    whole = probability(subject, batch, chosen)
    found = []
    for rank in orders:
        without, alone = [], []
        for fraction in FRACTIONS:
            most = (fraction * valid.sum(1, keepdim=True)).ceil()
            without.append(_with(subject, batch, chosen, segments, rank >= most))
            alone.append(_with(subject, batch, chosen, segments, rank < most))
        found.append(Curves(whole, torch.stack(without, 1), torch.stack(alone, 1)))
    return found


def _with(subject: Subject, batch: Batch, chosen: Tensor, segments: Segments, keep: Bool[Tensor, "b M"]) -> Float[Tensor, " b"]:
    with keeping(subject, by_modality(keep, segments)):
        return probability(subject, batch, chosen)


def probability(subject: Subject, batch: Batch, chosen: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Of a class of each row."""
    with torch.no_grad():
        return subject.scores(batch).gather(1, chosen[:, None])[:, 0].exp().cpu()
