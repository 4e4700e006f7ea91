"""Statistics of attention: how sharp it is, where it goes, and what it depends on, in one run over the weights.

Letters: b rows, h heads, n queries, m keys.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from perceiver.attention import Attention
from perceiver.explain.attention.passage import Weighed

MOST = 512  # queries of one call that are looked at
STEPS = 20  # after which weights that are fixed are known
TINY = 1e-30


@dataclass(frozen=True)
class Statistics:
    """Of one call of a layer.

    Attributes:
        layer: its name.
        kind: read, self or answer.
        sharpness: entropy of each query's weights over that of uniform ones, from 0 (one key) to 1 (all alike); NaN where there is one key
            or none.
        effective: number of keys that a query attends to, exp(entropy).
        received: what each key receives of each head, mean over the queries; 1 in sum over the keys.
        carried: the length of what each key gives to those who attend to it, mean over heads, 1 for the mean key of a row.
        valid: keys that may be attended.
        mass: by segment, of each query.
        sizes: keys of each segment, in order.
        input_dependence: share of what can be told about the row from where a query looks: (H(mean of the rows' weights) - mean H) / log b, which is
            the mean over rows of how far each one's weights are from the mean (Kullback and Leibler), here row by row. 0 where all rows are
            attended to alike; None with one row.
        by_presence: the same for weights that are the same for all rows, but for what a row lacks (`strengths`): as much as padding and absence tell.
        query_diversity: how far queries look at different places, the same formula over queries: 0 = all latents look alike.
        head_diversity: over heads.
        largest_logit: the greatest product of a query and a key, over the root of the head width, of each head.
    """

    layer: str
    kind: str
    sharpness: Float[Tensor, "b h n"]
    effective: Float[Tensor, "b h n"]
    received: Float[Tensor, "b h m"]
    carried: Float[Tensor, "b m"]
    valid: Bool[Tensor, "b m"]
    mass: dict[str, Float[Tensor, "b h n"]]
    sizes: dict[str, int]
    input_dependence: Float[Tensor, "b h n"] | None
    by_presence: Float[Tensor, "b h n"] | None
    query_diversity: Float[Tensor, "b h"]
    head_diversity: Float[Tensor, "b n"] | None
    largest_logit: Float[Tensor, "b h"]


def entropy(weights: Float[Tensor, "*b m"]) -> Float[Tensor, "*b"]:
    """- sum p log p in nats; a weight of zero adds nothing (no floor under the logarithm, which would count many small weights twice)."""
    return torch.special.entr(weights).sum(-1)


def apart(weights: Float[Tensor, "b h n m"], own: Float[Tensor, "b h n"]) -> Float[Tensor, "b h n"]:
    """How far each row's weights are from the mean of the rows: their divergence over log b. The mean over rows is at most 1.

    Args:
        weights: of more than one row.
        own: their entropy.
    """
    return -(own + torch.einsum("bhnm,hnm->bhn", weights, weights.mean(0).clamp_min(TINY).log())) / math.log(len(weights))


def strengths(weights: Float[Tensor, "b h n m"], valid: Bool[Tensor, "b m"]) -> Float[Tensor, "h n m"]:
    """The nearest weights that do not depend on the row: one number a key, to be shared out anew among the keys that each row has.

    The numbers are those of the greatest likelihood (Hunter 2004, "MM algorithms for generalized Bradley-Terry models"). Weights that are uniform, or
    the same for all rows but for what a row lacks, are found to be so.
    """
    there, received = valid.to(weights), weights.sum(0)
    found = torch.ones_like(received)
    for _ in range(STEPS):
        total = torch.einsum("hnm,bm->bhn", found, there).clamp_min(TINY)
        found = received / torch.einsum("bhn,bm->hnm", 1 / total, there).clamp_min(TINY)
    return found


def told_by_presence(weights: Float[Tensor, "b h n m"], valid: Bool[Tensor, "b m"]) -> Float[Tensor, "b h n"]:
    """What `apart` would say of weights that are the same for all rows, shared out anew among the keys that each row has."""
    if bool((valid == valid[:1]).all()):
        return weights.new_zeros(weights.shape[:-1])
    there, one = valid.to(weights), strengths(weights, valid)
    total = torch.einsum("hnm,bm->bhn", one, there).clamp_min(TINY)
    mean = one * torch.einsum("bhn,bm->hnm", 1 / total, there) / len(there)
    # A row's weights are w = one / total, so that their divergence, sum w (log one - log total - log mean), is a product of matrices.
    apart_from_mean = one * (one.clamp_min(TINY).log() - mean.clamp_min(TINY).log())
    found = torch.einsum("hnm,bm->bhn", apart_from_mean, there) / total - total.log()
    return found.masked_fill(~valid.any(1)[:, None, None], 0) / math.log(len(there))


def statistics(weighed: Weighed, rows: int | None = None) -> Statistics:
    """All of them, in one run over the weights of a call.

    Args:
        weighed: the call.
        rows: the first so many of its rows; all when not given.
    """
    sizes, valid = weighed.sizes, weighed.valid[:rows]
    _, h, n, width = weighed.q.shape
    b = len(valid)
    keys = valid.sum(-1).clamp_min(1)
    total = torch.zeros(b, h, weighed.k.shape[-2], device=weighed.q.device)
    entropies, masses, dependence, presence, diversity, largest = [], [], [], [], [], []
    for some, weights in weighed.chunks():
        weights = weights[:rows]
        total += weights.sum(2)
        own = entropy(weights)
        entropies.append(own)
        masses.append(torch.stack([part.sum(-1) for part in weights.split(list(sizes.values()), -1)]))
        if b > 1:
            dependence.append(apart(weights, own))
            presence.append(told_by_presence(weights, valid))
        if h > 1:
            diversity.append((entropy(weights.mean(1)) - own.mean(1)) / math.log(h))
        scores = weighed.q[:rows, :, some].float() @ weighed.k[:rows].float().transpose(-1, -2) * width**-0.5
        largest.append(scores.masked_fill(~valid[:, None, None], -torch.inf).amax((-1, -2)))
    own = torch.cat(entropies, -1)
    mean = total / n
    spread = (entropy(mean) - own.mean(-1)) / math.log(n) if n > 1 else torch.zeros_like(mean[..., 0])
    return Statistics(
        layer=weighed.name,
        kind=weighed.kind,
        sharpness=own / torch.where(keys > 1, keys.float().log(), torch.nan)[:, None, None],
        effective=own.exp(),
        received=mean,
        carried=_carried(weighed, rows, valid),
        valid=valid,
        mass=dict(zip(sizes, torch.cat(masses, -1), strict=True)),
        sizes=dict(sizes),
        input_dependence=torch.cat(dependence, -1) if b > 1 else None,
        by_presence=torch.cat(presence, -1) if b > 1 else None,
        query_diversity=spread,
        head_diversity=torch.cat(diversity, -1) if h > 1 else None,
        largest_logit=torch.stack(largest).amax(0),
    )


def _carried(weighed: Weighed, rows: int | None, valid: Bool[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    length = weighed.lengths[:rows].mean(1).masked_fill(~valid, 0)
    return length / (length.sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp_min(1)).clamp_min(1e-12)


def coverage(found: Statistics, threshold: float = 0.5) -> Float[Tensor, " b"]:
    """Share of a row's keys that receive more than `threshold` times an even share."""
    even = threshold / found.valid.sum(-1, keepdim=True).clamp_min(1)
    seen = (found.received.mean(1) > even) & found.valid
    return seen.sum(-1) / found.valid.sum(-1).clamp_min(1)


def spectral_norms(layer: Attention) -> Float[Tensor, " h"]:
    """The largest singular value of W_K W_Q' of each head, over the root of the head width: the bound of the logits of inputs of norm one
    (Zhai et al. 2023, "Stabilizing Transformer Training by Preventing Attention Entropy Collapse", theorem 3.1)."""
    if layer.to_q.weight.ndim != 2:
        return torch.zeros(layer.heads)  # attention that is uniform has no scores
    q, k = (linear.weight.detach().float().unflatten(0, (layer.heads, -1)) for linear in (layer.to_q, layer.to_k))
    # The product of a tall and a wide matrix has the singular values of the product of their triangles, which is small.
    triangles = torch.linalg.qr(q.transpose(1, 2)).R @ torch.linalg.qr(k.transpose(1, 2)).R.transpose(1, 2)
    return torch.linalg.matrix_norm(triangles, ord=2) * q.shape[1] ** -0.5
