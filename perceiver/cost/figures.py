"""Figures: what a report is made of, for a block, a modality or a whole model."""

from collections.abc import Iterable
from dataclasses import dataclass

from perceiver.cost.layers import Term
from perceiver.cost.work import Work

LARGEST_DIFFERENCE = 0.01  # between closed forms and counter, before they are said to disagree


@dataclass(frozen=True)
class Computed:
    """What is computed in one way, dense or factored.

    Attributes:
        forward: FLOPs of the forward pass.
        training: FLOPs of a training step, forward and backward.
        attention_bytes: of the softmax matrices, were they held; fused kernels hold none of them.
        kv_share: share of the forward pass that keys and values of the context take.
    """

    forward: int
    training: int
    attention_bytes: int
    kv_share: float

    @classmethod
    def of(cls, terms: Iterable[Term]) -> "Computed":
        """Of some terms together."""
        terms = list(terms)
        work = sum((term.work for term in terms), Work())
        kv = sum(term.work.forward for term in terms if term.kind == "keys and values")
        return cls(work.forward, work.training, sum(term.attention_bytes for term in terms), kv / work.forward if work.forward else 0.0)


@dataclass(frozen=True)
class Agreement:
    """Closed forms beside the counter.

    Attributes:
        closed: FLOPs by closed forms.
        counted: FLOPs by the counter.
    """

    closed: int
    counted: int

    @property
    def difference(self) -> float:
        """Of the closed form from what was counted, relative to that; 0 is best."""
        return 0.0 if self.closed == self.counted else abs(self.closed - self.counted) / max(self.counted, 1)

    @property
    def agrees(self) -> bool:
        """Whether they are within 1 % of one another."""
        return self.difference <= LARGEST_DIFFERENCE


@dataclass(frozen=True)
class Share:
    """What belongs to one block, or to one modality.

    Attributes:
        name: of the block or modality.
        parameters: how many it has.
        shared_parameters: how many of them several runs share.
        runs: how often a block runs, one run after another; how many reads a modality has.
        dense: with every token formed.
        factored: as this library runs, large grids read in parts.
        activation_bytes: that are kept for the backward pass, measured; None where there was nothing to measure.
        max_path_hops: of a block, how far apart any two that it lets meet are; of a modality, how far its inputs are from the outputs.
        bottleneck_ratio: numbers that are read for each number of the latents, M C / (N D); None where nothing is read.
    """

    name: str
    parameters: int
    shared_parameters: int
    runs: int
    dense: Computed
    factored: Computed
    activation_bytes: int | None
    max_path_hops: int
    bottleneck_ratio: float | None


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, under the papers' letters.

    Attributes:
        rows: of the batch.
        inputs: M, tokens of a row.
        width: C, of a token.
        latents: N; 0 where there are none.
        latent_width: D.
        reads: how often latents read the inputs.
        layers: how often a layer of latents reads itself.
        queries: O, of a row.
        query_width: E.
    """

    rows: int
    inputs: int
    width: int
    latents: int
    latent_width: int
    reads: int
    layers: int
    queries: int
    query_width: int


@dataclass(frozen=True)
class TableRow:
    """A row of Table 1 of "Attention Is All You Need", with numbers.

    Attributes:
        layer: what it is.
        work: order of its work.
        steps: order of the operations that must follow one another.
        path: order of the longest path between two positions.
        flops: of one layer with this model's sizes, a batch of one.
        num_steps: of them, for these sizes.
        num_hops: likewise, of the path.
    """

    layer: str
    work: str
    steps: str
    path: str
    flops: int
    num_steps: int
    num_hops: int


@dataclass(frozen=True)
class Transformer:
    """A transformer over all inputs: the model's latent layers, but over every token, and no latents.

    Attributes:
        parameters: with the model's adapters and heads.
        computed: what it takes.
        times: FLOPs of its forward pass for each of the model's, every token formed.
    """

    parameters: int
    computed: Computed
    times: float
