"""Layers: the closed form of each kind of layer, evaluated from the arrays that it met.

Letters: b rows, n queries, m context tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from perceiver.attention import Attention
from perceiver.cost.blocks import block_of
from perceiver.cost.grid import Asked, Grid, learns, map_work, read_work
from perceiver.cost.work import Work, product
from perceiver.linear import is_plain
from perceiver.tokens import Tokens

HEAD_STEP = 8  # channels: what the width of a head is filled up to before fused attention
Modality = Callable[[str], str | None]


@dataclass(frozen=True)
class Term:
    """One thing that is computed.

    Attributes:
        module: name of the module that computes it.
        modality: whose data make it necessary; None for what latents, queries and heads take.
        kind: what it is, such as "keys and values".
        work: how much it is.
        attention_bytes: of softmax matrices, were they held.
    """

    module: str
    modality: str | None
    kind: str
    work: Work
    attention_bytes: int = 0

    @property
    def block(self) -> str:
        """The block that the module belongs to."""
        return block_of(f"{self.module}.")


@dataclass(frozen=True)
class Maps:
    """Rows that each linear map of one attention call was given, call by call; whether they have a gradient, and whether what came out has one."""

    calls: dict[str, list[tuple[int, bool, bool]]] = field(default_factory=lambda: {"to_q": [], "to_k": [], "to_v": [], "to_out": []})

    def work(self, layer: Attention, name: str, which: slice = slice(None)) -> Work:
        """Of some calls of one map."""
        return sum((map_work(getattr(layer, name), rows, data=data) for rows, data, _ in self.calls[name][which]), Work())


@dataclass(frozen=True)
class Read:
    """One call of an attention layer.

    Attributes:
        module: name of the layer.
        layer: the layer.
        x: queries.
        context: one tensor, or tokens by modality.
        rotate: turned queries and keys.
        maps: what its linear maps were given.
    """

    module: str
    layer: Attention
    x: Tensor | Tokens
    context: Tensor | Mapping[str, Tokens]
    rotate: Any
    maps: Maps

    @property
    def block(self) -> str:
        """The block that the layer belongs to."""
        return block_of(f"{self.module}.")

    @property
    def itself(self) -> bool:
        """Whether queries and context are the same."""
        return self.context is self.x

    @property
    def in_parts(self) -> bool:
        """Whether some of its tokens were never formed."""
        return isinstance(self.x, Tokens) or (not isinstance(self.context, Tensor) and bool(self.layer._apart(self.context, self.rotate)[0]))

    @property
    def queries(self) -> Tensor:
        """An array with the rows and the number of queries."""
        return self.x if isinstance(self.x, Tensor) else self.x.features

    @property
    def tokens(self) -> dict[str, int]:
        """Number of context tokens by modality; of one tensor under the name ""."""
        if isinstance(self.context, Tensor):
            return {"": self.context.shape[1]}
        return {name: tokens.features.shape[1] for name, tokens in self.context.items()}

    def widths(self) -> tuple[int, int]:
        """Of queries and keys, and of values, all heads together, as they run: each head is filled up to a multiple of 8."""
        qk, v = (self.layer.heads * _filled(int(linear.out_features) // self.layer.heads) for linear in (self.layer.to_k, self.layer.to_v))
        return qk, v

    def terms(self, modality: Modality) -> list[Term]:
        """All that the call computes.

        Args:
            modality: that the name of a segment of the context stands for; None for what is no input.
        """
        layer, maps, batch, n = self.layer, self.maps, *self.queries.shape[:2]
        ask = maps.work(layer, "to_q") + maps.work(layer, "to_out")
        if isinstance(self.x, Tokens) and is_plain(layer.to_q) and not maps.calls["to_q"]:
            ask += Grid(self.x).projected(layer.to_q)
        terms = [Term(self.module, None, "queries and outputs", ask)]
        grids: Mapping[str, Tokens] = {}
        others: Mapping[str, Any] = {"": self.context}
        if not isinstance(self.context, Tensor):
            grids, others = layer._apart(self.context, self.rotate)
        extra = 1 if grids and others else 0  # what was read of the grids is one key, and one channel, more
        done = 0
        for name, segment in others.items():
            tokens = segment if isinstance(segment, Tensor) else segment.features
            whose = modality(name) if name else None
            work = maps.work(layer, "to_k", slice(done, done + 1)) + maps.work(layer, "to_v", slice(done, done + 1))
            done += 1
            terms.append(Term(self.module, whose, "keys and values", work))
            size = batch * layer.heads * n * tokens.shape[1] * tokens.element_size()
            terms.append(Term(self.module, whose, "scores and sums", self._scores(batch * n * tokens.shape[1], extra), size))
        for name, tokens in grids.items():
            asked = Asked(min(self._asked, len(tokens.features)), n, layer.heads, self._learns("to_q"))
            work = read_work(tokens, asked, layer.to_k, layer.to_v)
            assert tokens.positions is not None
            calls = slice(done, done + 3 + len(tokens.positions.axes))  # of a map that stands in the place of a plain one
            if not is_plain(layer.to_k):
                work += maps.work(layer, "to_k", calls)
            if not is_plain(layer.to_v):
                work += maps.work(layer, "to_v", calls)
            done = calls.stop
            terms.append(Term(self.module, modality(name), "scores and sums", work))
        if extra:
            terms.append(Term(self.module, None, "scores and sums", self._scores(batch * n, extra)))
        return terms

    @property
    def _asked(self) -> int:
        """Rows of queries that differ: one, where all rows ask the same."""
        same = self.x.stride(0) == 0 if isinstance(self.x, Tensor) else not self.x.features.shape[-1]
        return 1 if same else len(self.queries)

    def _learns(self, name: str) -> bool:
        """Whether what a map gives has a gradient."""
        calls = self.maps.calls[name]
        return any(out for _, _, out in calls) if calls else learns(*getattr(self.layer, name).parameters())

    def _scores(self, pairs: int, extra: int) -> Work:
        """Of pairs of a query and a key, as wide as they run."""
        queries, keys, values = (self._learns(name) for name in ("to_q", "to_k", "to_v"))
        maps = (self.layer.to_k, self.layer.to_v)
        qk, v = (self.layer.heads * _filled(int(linear.out_features) // self.layer.heads + extra) for linear in maps)
        return product(pairs, qk, 1, left=queries, right=keys) + product(pairs, v, 1, left=queries or keys, right=values)


def _filled(width: int) -> int:
    return -(-width // HEAD_STEP) * HEAD_STEP


def convolution(module: Any, x: Tensor, out: Tensor) -> Work:
    """Each place of what comes out is a product with the kernel."""
    return product(out.numel() // out.shape[1], module.weight[0].numel(), out.shape[1], left=learns(x), right=learns(module.weight))


def projection(tokens: Tokens, features: Tensor, project: nn.Linear) -> Work:
    """Tokens that are mapped to the common width, data and the table of each axis by themselves."""
    right, dim = learns(project.weight), project.out_features
    work = product(features.shape[0] * features.shape[1], features.shape[2], dim, left=learns(features), right=right)
    tables: Sequence[Tensor] = () if tokens.positions is None else tokens.positions.axes
    for table in tables:
        work += product(len(table), table.shape[1], dim, left=learns(table), right=right)
    if tokens.constant is not None:
        work += product(dim, len(tokens.constant), 1, left=right, right=learns(tokens.constant))
    return work


def fused_maps(answers: Tensor, first: nn.Linear, second: nn.Linear) -> Work:
    """Two maps that were made one, see `perceiver.models.autoencoder.one_after_another`."""
    hidden, width = first.weight.shape
    out, both = second.out_features, {"left": learns(second.weight), "right": learns(first.weight)}
    work = product(out, hidden, width, **both) + product(out, hidden, 1, left=learns(second.weight), right=learns(first.bias))
    return work + product(answers.shape[0] * answers.shape[1], width, out, left=learns(answers), right=any(both.values()))
