"""From a model to its report: two passes, whose terms are sorted by block and by modality."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs
from perceiver.cost.blocks import block_of, kind_of, modality_of, trunk_of
from perceiver.cost.discovery import as_they_are, joined
from perceiver.cost.figures import Agreement, Computed, Share, Sizes
from perceiver.cost.layers import Read, Term
from perceiver.cost.measure import Measured, activation_bytes
from perceiver.cost.passes import Pass, run_pass
from perceiver.cost.report import CostReport
from perceiver.cost.table_one import over_all_inputs, table_one

Measure = Callable[[nn.Module, Mapping[str, Tensor]], Measured]
REST = "latents, queries, heads"  # what belongs to no modality


def cost_report(
    model: nn.Module, batch: Mapping[str, Tensor] | None = None, *, accuracy: float | None = None, measure: Measure | None = None
) -> CostReport:
    """What a model costs. Nothing of it is run, but where a batch is given: then one forward pass tells what is kept for the backward pass.

        report = perceiver.cost.cost_report(model)
        print(report.dense.forward / 1e9, "GFLOPs", *report.summary())

    It is told for evaluation: what dropout changes about a pass in training is left out.

    Args:
        model: one of this library's, or one made of its parts and of linear maps.
        batch: as the model takes it; one row with each adapter's largest entry when not given. A `MultitaskPerceiver` is asked for the tasks of its
            rows: without a batch, for the first of its tasks.
        accuracy: of the model, to be told per billion FLOPs.
        measure: times the model on the batch, in the mode that it is in: `measured`. Not timed when not given.

    Raises:
        ValueError: when no batch was given, and an adapter does not say how large its entries are, or the model has none.
    """
    entries = largest_entries(model) if batch is None else batch
    factored = run_pass(model, entries, as_they_are)
    dense = factored if factored.formed else run_pass(model, entries, joined)
    kept = None if batch is None else activation_bytes(model, batch)
    taken = None
    if measure is not None:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        taken = measure(model, {name: entry.to(device) for name, entry in entries.items()})
    return _Report(model, dense, factored, kept, max(map(len, entries.values()))).report(accuracy, taken)


def largest_entries(model: nn.Module) -> dict[str, Tensor]:
    """A batch of one row with the largest entry of each adapter.

    Raises:
        ValueError: when an adapter does not say how large its entries are, or the model has none.
    """
    adapters: dict[str, Any] = {name: one for m in model.modules() if isinstance(m, Inputs) for name, one in m.adapters.items()}
    if not adapters:
        raise ValueError(f"{type(model).__name__} has no adapters that say how large its inputs are: give a batch")
    return {name: one.largest(1) for name, one in adapters.items() if isinstance(one, Adapter)}


class _Report:
    """Two passes, sorted by block and by modality.

    Args:
        model: that they went through.
        dense: with every token formed.
        factored: as it runs.
        kept: bytes that are kept for the backward pass, by block.
        rows: of the batch.
    """

    def __init__(self, model: nn.Module, dense: Pass, factored: Pass, kept: Mapping[str, int] | None, rows: int) -> None:
        self.model, self.dense, self.factored, self.kept, self.rows = model, dense, factored, kept, rows
        self.parameters = Counter[str]()
        for name, parameter in model.named_parameters():
            self.parameters[block_of(name)] += parameter.numel()
        self.runs = Counter(read.block for read in factored.reads)
        self.modalities = list(dense.tokens)

    def report(self, accuracy: float | None, taken: Measured | None) -> CostReport:
        """The whole of it."""
        sizes, reads, blocks = self._sizes(), self.factored.reads, self._blocks()
        whole = Computed.of(self.dense.terms)
        depth = Counter(trunk_of(share.name) for share in blocks for _ in range(share.runs))
        hops = (1 if sizes.reads else 0) + 1
        ratios = [ratio for name in self.modalities if (ratio := self._ratio(name)) is not None]
        return CostReport(
            type(self.model).__name__,
            sizes,
            sum(self.parameters.values()),
            sum(share.shared_parameters for share in blocks),
            whole,
            Computed.of(self.factored.terms),
            _agreement("dense", self.dense) | _agreement("factored", self.factored),
            max(depth.values(), default=0),
            hops,
            sum(ratios) if ratios else None,
            tuple(blocks),
            tuple(self._shares()),
            tuple(table_one(sizes, reads, whole.forward // self.rows, max(depth.values(), default=0), hops)),
            over_all_inputs(sizes, self.dense.terms, self.dense.reads, self.parameters, whole.forward),
            None if self.kept is None else sum(self.kept.values()),
            accuracy,
            taken,
        )

    def _blocks(self) -> list[Share]:
        """All blocks, in the order of the model."""
        terms = [*self.dense.terms, *self.factored.terms]
        names = list(dict.fromkeys([*self.parameters, *(term.block for term in terms), *(self.kept or {})]))
        return [self._share(name, {name}, _in_block(name)) for name in names]

    def _shares(self) -> list[Share]:
        """All modalities, and the rest."""
        blocks = {*self.parameters, *(self.kept or {})}
        owners = {block: modality_of(self.model, block) for block in blocks}
        found = []
        for name in [*self.modalities, None]:
            own = {block for block in blocks if owners[block] == name}
            found.append(self._share(name or REST, own, self._owned_by(name), reads=self._reads(name)))
        return found

    def _owned_by(self, modality: str | None) -> Callable[[Term], bool]:
        """Whether a term belongs to a modality; of models that are fused late, all that a model does belongs to its own."""

        def owned(term: Term) -> bool:
            owner = modality_of(self.model, term.block) if trunk_of(term.block) else term.modality
            return owner == modality

        return owned

    def _reads(self, modality: str | None) -> list[Read]:
        """Reads of a modality."""
        return [read for read in self.factored.reads if modality in read.tokens]

    def _share(self, name: str, blocks: set[str], belongs: Callable[[Term], bool], reads: Sequence[Read] | None = None) -> Share:
        """What belongs to one block, or to the modality of these reads."""
        runs = self.runs_of(name) if reads is None else len(reads)
        hops = min(runs, 1) if reads is None else 0 if name == REST else min(runs, 1) + 1
        read = next((r for r in self.factored.reads if r.block == name and kind_of(name) == "cross_attends"), None)
        ratio = self._ratio(name) if reads is not None else None if read is None else _ratio(read, sum(read.tokens.values()))
        return Share(
            name,
            sum(self.parameters[block] for block in blocks),
            sum(self.parameters[block] for block in blocks if self.runs_of(block) > 1),
            runs,
            Computed.of(filter(belongs, self.dense.terms)),
            Computed.of(filter(belongs, self.factored.terms)),
            None if self.kept is None else sum(self.kept.get(block, 0) for block in blocks),
            hops,
            ratio,
        )

    def runs_of(self, block: str) -> int:
        """How often a block runs, one run after another; queries that are asked in pieces are asked beside one another."""
        return min(self.runs[block], 1) if kind_of(block) == "decoder" else self.runs[block]

    def _ratio(self, modality: str) -> float | None:
        """Numbers of a modality for each number of the latents that read it first."""
        reads = self._reads(modality)
        return _ratio(reads[0], reads[0].tokens[modality]) if reads else None

    def _sizes(self) -> Sizes:
        """Sizes under the papers' letters; of several models, the widths of the first."""
        by_kind: dict[str, list[Read]] = {}
        for read in self.dense.reads:
            by_kind.setdefault(kind_of(read.block), []).append(read)
        first, last = by_kind.get("cross_attends", []), by_kind.get("decoder", [])
        return Sizes(
            self.rows,
            sum(self.dense.tokens.values()),
            next(iter(self.dense.widths.values()), 0),
            first[0].queries.shape[1] if first else 0,
            first[0].queries.shape[2] if first else 0,
            len(first),
            sum(read.itself for read in self.dense.reads),
            sum(read.queries.shape[1] for read in last),
            last[0].queries.shape[2] if last else 0,
        )


def _in_block(name: str) -> Callable[[Term], bool]:
    return lambda term: term.block == name


def _ratio(read: Read, tokens: int) -> float:
    """M C / (N D), of the latents that do the reading."""
    latents = read.queries.shape[1] * int(read.layer.to_out.out_features)
    return tokens * int(read.layer.to_v.in_features) / latents


def _agreement(name: str, one: Pass) -> dict[str, Agreement]:
    """Closed and counted FLOPs of a pass, forward and in training."""
    closed = Computed.of(one.terms)
    return {
        f"{name}, forward": Agreement(closed.forward, one.counted.forward),
        f"{name}, training": Agreement(closed.training, one.counted.training),
    }
