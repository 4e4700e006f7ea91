"""softmax(Q K') V and what belongs to it, as functions of queries, keys and values: the one place where it is computed.

What holds everywhere:
- masks are boolean, True = may be attended;
- a query with nothing to attend to reads exactly zero, and its gradients are finite;
- what lies behind a mask, NaN included, reaches neither an output nor a gradient.

Letters: b batch, h heads, n queries, m keys, e head width of queries and keys, w head width of values, s segments.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def attend(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h m e"],
    v: Float[Tensor, "b h m w"],
    mask: Bool[Tensor, " b #h #n m"] | None = None,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "b h n w"]:
    """softmax(q k' / sqrt(e)) v (Attention Is All You Need, eq. 1), over PyTorch's fused kernels.

    Args:
        mask: True = this query may attend to this key; None = all may.
        dropout: share of the weights that are zeroed.
    """
    if mask is not None:
        unseen = ~mask.any(-2)[..., None]  # a key that no query may see must not meet the arithmetic: NaN times zero is NaN
        k, v = k.masked_fill(unseen, 0), v.masked_fill(unseen, 0)
    return attend_to_finite(q, k, v, mask, dropout)


def attend_to_finite(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """`attend`, for keys and values that are finite behind the mask already. No kernel is handed a row without a key."""
    if k.shape[-2] == 0:
        return q.new_zeros(*q.shape[:-1], v.shape[-1])
    if mask is None:
        return _padded_attention(q, k, v, None, dropout)
    alive = mask.any(-1, keepdim=True)
    return _padded_attention(q, k, v, mask | ~alive, dropout).masked_fill(~alive, 0)


def _padded_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Zero-pads head widths to multiples of 8, which the fused CUDA kernels ask for; the scale stays that of the true width."""
    scale, width = q.shape[-1] ** -0.5, v.shape[-1]
    pad, pad_v = -q.shape[-1] % 8, -width % 8
    if pad:
        q, k = F.pad(q, (0, pad)), F.pad(k, (0, pad))
    if pad_v:
        v = F.pad(v, (0, pad_v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return out[..., :width]


def merge(parts: Sequence[tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h n"]]]) -> tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h n"]]:
    """What is read of several segments together, from what is read of each, and the logarithm of the sum of the exponentials of its scores.

    A segment with nothing to attend to has -inf, and zeros; so has the whole where all have.
    """
    outs, lses = zip(*parts, strict=True)
    lse = torch.stack(lses)
    alive = lse.isfinite().any(0)
    top = lse.detach().amax(0).masked_fill(~alive, 0)
    shares = torch.exp(lse - top)
    total = shares.sum(0).masked_fill(~alive, 1)
    out = sum(share[..., None] * one for share, one in zip(shares, outs, strict=True)) / total[..., None]
    return out, (top + total.log()).masked_fill(~alive, -torch.inf)


def attend_beside(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h m e"],
    v: Float[Tensor, "b h m w"],
    mask: Bool[Tensor, " b #h #n m"] | None,
    out: Float[Tensor, "b h n w"],
    lse: Float[Tensor, "b h n"],
) -> Float[Tensor, "b h n w"]:
    """`attend` to k and v, beside what each query has read elsewhere already: that is one key more, and one more value tells its weight."""
    q, k, mask = with_key(q, k, mask, lse)
    v = torch.cat([F.pad(v, (0, 1)), F.pad(v.new_ones(*v.shape[:2], 1, 1), (v.shape[-1], 0))], -2)
    read = attend_to_finite(q, k, v, mask, 0.0)
    return read[..., :-1] + read[..., -1:] * out


def with_key(
    q: Float[Tensor, "b h n e"], k: Float[Tensor, "b h m e"], mask: Bool[Tensor, " b #h #n m"] | None, lse: Float[Tensor, "b h n"]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Queries and keys with one key more, whose score is lse: one channel more gives it to each query. Where that is -inf, it may not be attended."""
    width, alive = q.shape[-1], lse.isfinite()
    score = lse.masked_fill(~alive, 0) * width**0.5
    q = torch.cat([q, score[..., None]], -1) * ((width + 1) / width) ** 0.5  # the scale stays that of the true width
    k = torch.cat([F.pad(k, (0, 1)), F.pad(k.new_ones(*k.shape[:2], 1, 1), (width, 0))], -2)
    before = k.new_ones((len(k), 1, 1, k.shape[-2] - 1), dtype=torch.bool) if mask is None else mask
    shape = torch.broadcast_shapes(before.shape[:-1], alive.shape)
    return q, k, torch.cat([before.expand(*shape, -1), alive[..., None].expand(*shape, -1)], -1)


def soft_weights(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h m e"],
    mask: Bool[Tensor, " b #h #n m"] | None = None,
) -> Float[Tensor, "b h n m"]:
    """The weights that `attend` uses, in float32: softmax(q k' / sqrt(e)). A query with nothing to attend to has none (zeros)."""
    with torch.autocast(q.device.type, enabled=False):
        scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
    if mask is None:
        return scores.softmax(-1)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights.masked_fill(~mask.any(-1, keepdim=True), 0)


def segment_mass(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h m e"],
    sizes: list[int],
    mask: Bool[Tensor, " b #h #n m"] | None = None,
) -> Float[Tensor, "b h n s"]:
    """The sum of the soft weights over each of the segments that lie side by side in k, without ever holding the weights.

    The weighted mean of a value that is 1 inside a segment and 0 outside *is* the mass of that segment, so the fused
    kernel computes it. As many segments as the head is wide go through at once.
    """
    q, k = q.float(), k.float()
    width, masses = q.shape[-1], []
    segment = torch.repeat_interleave(torch.arange(len(sizes), device=k.device), torch.tensor(sizes, device=k.device))
    for first in range(0, len(sizes), width):
        indicator = (segment[:, None] == torch.arange(first, first + width, device=k.device)).to(k.dtype)
        with torch.autocast(q.device.type, enabled=False):
            masses.append(attend(q, k, indicator.expand(*k.shape[:2], -1, -1), mask))
    return torch.cat(masses, -1)[..., : len(sizes)]
