"""Attention: latents attend to inputs, to one another, and output queries attend to latents.

It is always a query array of one width, and a context of another. A context may be one tensor, or several modalities side by side, each with the rows
that have it. Queries may be one tensor, or tokens of a grid.

Modalities of many tokens on a grid are read apart, without ever forming their keys and values (`perceiver.grid_attention`), and what was read is
merged with the rest by the logarithms of the sums of exponentials: the same numbers, to rounding.

Letters: b batch, h heads, n queries, m context tokens, e head width of queries and keys, w head width of values,
d query width, c context width, s segments.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from perceiver.description import Described
from perceiver.grid_attention import GridParts, read_grid
from perceiver.initialization import linear
from perceiver.softmax import attend_beside, attend_to_finite, merge, segment_mass, with_key
from perceiver.tokens import Tokens

Context = Tensor | Mapping[str, Tokens]
Rotate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def once(function: Callable[[Tensor], Tensor], x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """function(x), computed for one row where x repeats one for a whole batch, as learned arrays do that were expanded."""
    if x.stride(0):
        return function(x)
    found = function(x[:1])
    return found.expand(len(x), *found.shape[1:])


def once_of(x: Float[Tensor, "b ..."], rows: Int[Tensor, " k"]) -> Float[Tensor, "k ..."]:
    """Some rows of x; still one that is repeated, where x repeats one."""
    return x[rows] if x.stride(0) else x[:1].expand(len(rows), *x.shape[1:])


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

    reads_parts = True  # large grids without their tokens; not where scores are no sum of what the parts of a key add

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
        x: Float[Tensor, "b n d"] | Tokens,
        context: Context,
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None = None,
        rotate: Rotate | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Reads the context.

        Args:
            x: queries; or tokens to be asked in parts (`Tokens.asks_in_parts`).
            context: one tensor `b m c`, or tokens by modality.
            mask: True = may be attended, for a tensor context; tokens carry their own.
            rotate: turns queries and keys by their positions, such as `perceiver.Rotary`.
        """
        if not isinstance(context, Tensor) and (apart := self._apart(context, rotate))[0]:
            out = self._read(x, *apart)
        else:
            q, k, v, mask = self.project(x, context, mask, rotate)
            out = attend_to_finite(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.to_out(rearrange(out, "b h n w -> b n (h w)").to(_features(x).dtype))

    def _read(self, x: Tensor | Tokens, grids: Mapping[str, Tokens], others: Mapping[str, Tokens]) -> Float[Tensor, "b h n w"]:
        """What is read of some grids, and of other modalities beside them."""
        q, k, v, mask = self.project(x, others)
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            read = [self._read_grid(q.to(wide), tokens) for tokens in grids.values()]
            out, lse = read[0] if len(read) == 1 else merge(read)
            if k.shape[-2]:
                out = attend_beside(q.to(wide), k.to(wide), v.to(wide), mask, out, lse)
        return out

    def _read_grid(self, q: Tensor, tokens: Tokens) -> tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h n"]]:
        """`read_grid` for the rows that have it; the others read zero, with a logarithm of -inf."""
        rows = q if tokens.rows is None else once_of(q, tokens.rows)
        out, lse = read_grid(rows, GridParts(tokens, q.dtype), self.to_k, self.to_v)
        if tokens.rows is None:
            return out, lse
        return tokens.to_batch(out, len(q)), lse.new_full((len(q), *lse.shape[1:]), -torch.inf).index_copy(0, tokens.rows, lse)

    def mass(
        self, x: Tensor | Tokens, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None
    ) -> dict[str, Float[Tensor, "b h n"]]:
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
        with torch.autocast(q.device.type, enabled=False):
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
        joined = not self.reads_parts or rotate is not None or (self.training and self.dropout > 0) or _drops(self.to_k) or _drops(self.to_v)
        grids = {} if joined else {name: tokens for name, tokens in context.items() if tokens.in_parts}
        return grids, {name: tokens for name, tokens in context.items() if name not in grids}

    def project(
        self, x: Tensor | Tokens, context: Context, mask: Tensor | None = None, rotate: Rotate | None = None
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h m e"], Float[Tensor, "b h m w"], Bool[Tensor, " b #h #n m"] | None]:
        """Queries, keys, values and mask, by head: all that softmax(Q K') V is made of."""
        if isinstance(context, Tensor):
            if mask is not None:
                mask = mask[:, None] if mask.ndim == 2 else mask
                context = context.masked_fill(~mask.any(1)[..., None], 0)  # before the projections, or NaN would reach their gradients
            k, v = self._keys(context), self.to_v(context)
        else:
            k, v, mask = self._project_segments(context, len(_features(x)))
        q, k, v = (rearrange(t, "b t (h e) -> b h t e", h=self.heads) for t in (self._asked(x).to(k.dtype), k, v))
        if rotate is not None:
            q, k = rotate(q, k)
        return q, k, v, mask if mask is None else mask[:, None]

    def _asked(self, x: Tensor | Tokens) -> Float[Tensor, "b n d"]:
        """Queries, of all heads together: made once, where all rows ask the same; of normed tokens without forming these."""
        if _drops(self.to_q):
            return self.to_q(x if isinstance(x, Tensor) else x.dense().features)
        if isinstance(x, Tensor):
            return once(self.to_q, x)
        wide = torch.promote_types(x.features.dtype, torch.float32)
        with torch.autocast(x.features.device.type, enabled=False):
            return GridParts(x, wide).projected(self.to_q).expand(len(x.features), -1, -1)

    def _keys(self, context: Tensor | Tokens) -> Float[Tensor, "b m e"]:
        """Keys, of all heads together, of a tensor context or of the joined tokens of one modality."""
        return self.to_k(_features(context))

    def _project_segments(self, segments: Mapping[str, Tokens], batch: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values of the rows that have each modality, put in their places of the whole batch, side by side; of nothing, none."""
        if not segments:
            return self.to_k.weight.new_zeros(batch, 0, self.to_k.out_features), self.to_v.weight.new_zeros(batch, 0, self.to_v.out_features), None
        keys, values = [], []
        for tokens in segments.values():
            dense = tokens.dense()
            keys.append(tokens.to_batch(self._keys(dense), batch))
            values.append(tokens.to_batch(self.to_v(dense.features), batch))
        mask = None
        if any(t.mask is not None or t.rows is not None for t in segments.values()):
            mask = torch.cat([tokens.attendable(batch) for tokens in segments.values()], 1)[:, None]
        return torch.cat(keys, 1), torch.cat(values, 1), mask


def _features(x: Tensor | Tokens) -> Tensor:
    """Of joined tokens, all that they are; of queries in parts, what tells their batch and precision."""
    return x if isinstance(x, Tensor) else x.features


def _drops(linear: nn.Module) -> bool:
    """Whether a map zeroes some of what it reads, as that of LoRA does in training."""
    return any(module.training and module.p > 0 for module in linear.modules() if isinstance(module, nn.Dropout))


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
