"""Attention: the one place where softmax(Q K') V is computed.

Latents attend to inputs, to one another, and output queries attend to latents: always a query array of one width, and a
context of another. A context may be one tensor, or several modalities side by side, each with the rows that have it.

What holds everywhere:
- masks are boolean, True = may be attended;
- a query with nothing to attend to reads exactly zero, and its gradients are finite;
- what lies behind a mask, NaN included, reaches neither an output nor a gradient.

Modalities of many tokens on a grid are read apart, without ever forming their keys and values (`perceiver.grid_attention`), and what was read is
merged with the rest by the logarithms of the sums of exponentials: the same numbers, to rounding.

Letters: b batch, h heads, n queries, m context tokens, e head width of queries and keys, w head width of values,
d query width, c context width, s segments.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.description import Described
from perceiver.grid_attention import GridParts, read_grid
from perceiver.initialization import linear
from perceiver.tokens import Tokens

Context = Tensor | Mapping[str, Tokens]
Rotate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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
    return _attend_to_finite(q, k, v, mask, dropout)


def _attend_to_finite(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
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
    read = _attend_to_finite(q, k, v, mask, 0.0)
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


class Attention(Described):
    """Multi-head attention from x to a context of another width (Perceiver IO, appendix E.1). Self-attention is `attention(x, x)`.

    Args:
        dim: width of the queries, and of the output.
        context_dim: width of the context; `dim` when not given.
        heads: number of heads.
        qk_dim: width of queries and keys, all heads together; `dim` when not given.
        v_dim: width of values, all heads together; `qk_dim` when not given.
        dropout: share of the soft weights that are zeroed in training.

    Raises:
        ValueError: when the heads do not divide the widths.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int | None = None,
        *,
        heads: int = 8,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        context_dim = context_dim or dim
        qk_dim = qk_dim or dim
        v_dim = v_dim or qk_dim
        for name, width in (("qk_dim", qk_dim), ("v_dim", v_dim)):
            if heads < 1 or width % heads:
                raise ValueError(f"{name}={width} does not divide into heads={heads}: choose a positive number of heads that divides it")
        self.heads = heads
        self.dropout = dropout
        self.to_q = linear(dim, qk_dim)
        self.to_k = linear(context_dim, qk_dim)
        self.to_v = linear(context_dim, v_dim)
        self.to_out = linear(v_dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Context,
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None = None,
        rotate: Rotate | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Reads the context.

        Args:
            context: one tensor `b m c`, or tokens by modality.
            mask: True = may be attended, for a tensor context; tokens carry their own.
            rotate: turns queries and keys by their positions, such as `perceiver.Rotary`.
        """
        if not isinstance(context, Tensor) and (apart := self._apart(context, rotate))[0]:
            out = self._read(x, *apart)
        else:
            q, k, v, mask = self.project(x, context, mask, rotate)
            out = _attend_to_finite(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.to_out(rearrange(out, "b h n w -> b n (h w)").to(x.dtype))

    def _read(self, x: Tensor, grids: Mapping[str, Tokens], others: Mapping[str, Tokens]) -> Float[Tensor, "b h n w"]:
        """What is read of some grids, and of other modalities beside them."""
        q, k, v, mask = self.project(x, others)
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            read = [self._read_grid(q.to(wide), tokens) for tokens in grids.values()]
            out, lse = read[0] if len(read) == 1 else merge(read)
            if k.shape[-2]:
                out = attend_beside(q.to(wide), k.to(wide), v.to(wide), mask, out, lse)
        return out

    def _read_grid(self, q: Tensor, tokens: Tokens) -> tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h n"]]:
        """`read_grid` for the rows that have it; the others read zero, with a logarithm of -inf."""
        rows = q if tokens.rows is None else q[tokens.rows]
        out, lse = read_grid(rows, GridParts(tokens, q.dtype), self.to_k, self.to_v)
        if tokens.rows is None:
            return out, lse
        return tokens.to_batch(out, len(q)), lse.new_full((len(q), *lse.shape[1:]), -torch.inf).index_copy(0, tokens.rows, lse)

    def mass(self, x: Tensor, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None) -> dict[str, Float[Tensor, "b h n"]]:
        """How the attention of a call is shared out between the segments of its context, in their order; no weight is ever held."""
        if isinstance(context, Tensor):
            q, k, _, mask = self.project(x, context, mask, rotate)
            return {"context": segment_mass(q, k, [k.shape[-2]], mask)[..., 0]}
        grids, others = self._apart(context, rotate)
        q, k, _, mask = self.project(x, others, rotate=rotate)
        sizes = [math.prod(tokens.grid) for tokens in others.values()]
        if not grids:
            return dict(zip(others, segment_mass(q, k, sizes, mask).unbind(-1), strict=True))
        q, k = q.float(), k.float()
        with torch.autocast(x.device.type, enabled=False):
            read = {name: self._read_grid(q, tokens) for name, tokens in grids.items()}
            _, lse = merge(list(read.values()))
            q, k, mask = with_key(q, k, mask, lse)
            *beside, together = segment_mass(q, k, [*sizes, 1], mask).unbind(-1)
            # Where nothing can be read, both are -inf, and their difference is no number.
            found = {name: together * torch.exp(one - lse).nan_to_num(0) for name, (_, one) in read.items()}
        found.update(zip(others, beside, strict=True))
        return {name: found[name] for name in context}

    def _apart(self, context: Mapping[str, Tokens], rotate: Rotate | None) -> tuple[dict[str, Tokens], dict[str, Tokens]]:
        """The segments that are read in parts, and the others. What is dropped, or turned, one by one must be there one by one."""
        inside = [module for linear in (self.to_k, self.to_v) for module in linear.modules() if isinstance(module, nn.Dropout)]  # LoRA's
        joined = rotate is not None or (self.training and self.dropout > 0) or any(drop.training and drop.p for drop in inside)
        grids = {} if joined else {name: tokens for name, tokens in context.items() if tokens.in_parts}
        return grids, {name: tokens for name, tokens in context.items() if name not in grids}

    def project(
        self, x: Tensor, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h m e"], Float[Tensor, "b h m w"], Bool[Tensor, " b #h #n m"] | None]:
        """Queries, keys, values and mask, by head: all that softmax(Q K') V is made of."""
        if isinstance(context, Tensor):
            if mask is not None:
                mask = mask[:, None] if mask.ndim == 2 else mask
                context = context.masked_fill(~mask.any(1)[..., None], 0)  # before the projections, or NaN would reach their gradients
            k, v = self.to_k(context), self.to_v(context)
        else:
            k, v, mask = self._project_segments(context, len(x))
        q, k, v = (rearrange(t, "b t (h e) -> b h t e", h=self.heads) for t in (self.to_q(x), k, v))
        if rotate is not None:
            q, k = rotate(q, k)
        return q, k, v, mask if mask is None else mask[:, None]

    def _project_segments(self, segments: Mapping[str, Tokens], batch: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values of the rows that have each modality, put in their places of the whole batch, side by side; of nothing, none."""
        if not segments:
            return self.to_k.weight.new_zeros(batch, 0, self.to_k.out_features), self.to_v.weight.new_zeros(batch, 0, self.to_v.out_features), None
        keys, values = [], []
        for tokens in segments.values():
            features = tokens.dense().features
            keys.append(tokens.to_batch(self.to_k(features), batch))
            values.append(tokens.to_batch(self.to_v(features), batch))
        mask = None
        if any(t.mask is not None or t.rows is not None for t in segments.values()):
            mask = torch.cat([tokens.attendable(batch) for tokens in segments.values()], 1)[:, None]
        return torch.cat(keys, 1), torch.cat(values, 1), mask


def attention_layers(model: nn.Module, prefixes: tuple[str, ...] = ("",)) -> Iterator[tuple[str, Attention]]:
    """All attention layers of a model whose name starts with one of the prefixes, by name.

    Raises:
        ValueError: when no layer has such a name.
    """
    names = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    chosen = {name: module for name, module in names.items() if name.startswith(prefixes)}
    if not chosen:
        raise ValueError(f"no attention layer's name starts with {' or '.join(map(repr, prefixes))}; this model has {', '.join(names) or 'none'}")
    yield from chosen.items()
