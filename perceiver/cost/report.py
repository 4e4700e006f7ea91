"""The report: what a model costs, block by block and modality by modality, beside a transformer over all inputs.

Everything follows from shapes. Closed forms are held against PyTorch's counter, on two paths: dense, with every token formed, and factored, as the
library runs. Rows of blocks, and rows of modalities, sum up to the totals exactly.
"""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from perceiver.cost import tables
from perceiver.cost.figures import Agreement, Computed, Share, Sizes, TableRow, Transformer
from perceiver.cost.measure import Measured


@dataclass(frozen=True)
class CostReport:
    """What a model costs for a batch.

    Attributes:
        model: its class.
        sizes: under the papers' letters.
        parameters: how many.
        shared_parameters: how many of them several runs share.
        dense: what is computed where every token is formed.
        factored: what is computed as this library runs.
        agreement: closed forms beside the counter, for both, forward and in training.
        sequential_blocks: blocks of attention that must follow one another.
        max_path_hops: from any input to any output.
        bottleneck_ratio: numbers that are read for each number of the latents, M C / (N D); None without latents.
        blocks: by block.
        modalities: by modality, with a row for what belongs to none.
        table_one: Table 1 of "Attention Is All You Need", with this model's sizes.
        transformer: over all inputs; None where the model has no layers to build it of.
        activation_bytes: that are kept for the backward pass; None where no batch was given.
        accuracy: as given.
        measured: how long a forward pass took; None where none was timed.
    """

    model: str
    sizes: Sizes
    parameters: int
    shared_parameters: int
    dense: Computed
    factored: Computed
    agreement: dict[str, Agreement]
    sequential_blocks: int
    max_path_hops: int
    bottleneck_ratio: float | None
    blocks: tuple[Share, ...]
    modalities: tuple[Share, ...]
    table_one: tuple[TableRow, ...]
    transformer: Transformer | None
    activation_bytes: int | None
    accuracy: float | None
    measured: Measured | None

    @property
    def accuracy_per_gflop(self) -> float | None:
        """Accuracy for each billion FLOPs of a forward pass of one row, as this library runs; None where no accuracy was given."""
        return None if self.accuracy is None else self.accuracy * 1e9 * self.sizes.rows / self.factored.forward

    @property
    def agrees(self) -> bool:
        """Whether closed forms and counter agree everywhere."""
        return all(one.agrees for one in self.agreement.values())

    @property
    def largest_difference(self) -> float:
        """Between closed forms and counter, relative."""
        return max(one.difference for one in self.agreement.values())

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, as JSON takes it."""
        found = asdict(self)
        for name, one in self.agreement.items():
            found["agreement"][name] |= {"difference": one.difference, "agrees": one.agrees}
        return found | {"accuracy_per_gflop": self.accuracy_per_gflop}

    def summary(self) -> list[str]:
        """What it comes to, one sentence each."""
        each = [(share.name, share.dense, share.factored) for share in self.blocks]
        said = [
            tables.of_parameters(self.model, self.parameters, self.shared_parameters),
            tables.of_flops(self.dense.forward, self.factored.forward, self.dense.training, self.sizes.rows),
            tables.of_largest(each, self.dense.forward),
            tables.of_path(self.sequential_blocks, self.max_path_hops, self.bottleneck_ratio),
        ]
        if self.transformer is not None:
            said.append(tables.of_transformer(self.transformer, self.sizes.inputs))
        if self.accuracy_per_gflop is not None:
            said.append(f"Accuracy is {self.accuracy:.3g}, {self.accuracy_per_gflop:.3g} for each billion operations.")
        if self.measured is not None:
            said.append(tables.of_measured(self.measured))
        return [*said, tables.of_agreement(self.agreement)]

    def tables(self) -> list[Table]:
        """Table 1, blocks and modalities."""
        return [
            tables.first(self.table_one, self.transformer, self.sizes.rows),
            tables.shares("Blocks", self.blocks, self.dense, self.factored),
            tables.shares("Modalities", self.modalities, self.dense, self.factored),
        ]
