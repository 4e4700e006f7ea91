"""Bill: what a model costs to run, as the last diagnosis of a report."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from torch import Tensor

from perceiver.cost import CostReport, cost_report, measured
from perceiver.cost.measure import TIMES
from perceiver.explain.examples import Examples
from perceiver.explain.measure import Diagnosis, Measure, Verdict
from perceiver.explain.subject import Subject

KEY, TITLE = "cost", "Cost"


def diagnose(subject: Subject, examples: Mapping[str, Examples], accuracy: float | None) -> tuple[Diagnosis, CostReport]:
    """Parameters, operations, memory, time and path of one row as it came, and what a transformer over all its inputs would take.

    Args:
        subject: the model.
        examples: rows by dataset, of which the largest is taken, in modalities and then in numbers.
        accuracy: of the model, mean over datasets; None where there are no labels.
    """
    batch: dict[str, Tensor] | None = None
    if subject.asks_plainly:  # else only its author knows how to ask the model without asking too much: nothing is run then
        batch, _ = next(largest(subject, examples).batches(subject.device))
        batch.pop("target", None)
    found = cost_report(subject.model, batch, accuracy=accuracy, measure=None if batch is None else measured)
    agrees = found.agrees
    verdict: Verdict = "ok" if agrees else "warning"
    told = "closed forms and counter agree" if agrees else f"closed forms and counter differ by {100 * found.largest_difference:.1f} %"
    figures: list[tuple[str, float | None, dict[str, float], str]] = [
        ("parameters", float(found.parameters), {"shared by several runs": float(found.shared_parameters)}, "all that are learned"),
        ("operations forward", float(found.factored.forward), {"with every token formed": float(found.dense.forward)}, told),
        ("operations of a training step", float(found.factored.training), {"with every token formed": float(found.dense.training)}, told),
        ("longest path", float(found.max_path_hops), {}, "layers from any input to any output"),
        ("steps one after another", float(found.sequential_blocks), {}, "blocks of attention that must wait for one another"),
    ]
    if found.activation_bytes is not None:
        figures.append(("bytes kept for the backward pass", float(found.activation_bytes), {}, "of one row"))
    if found.measured is not None:
        where = f"of one row, median of {TIMES}, on {found.measured.device}"
        figures.append(("milliseconds of a forward pass", found.measured.milliseconds, {}, where))
        if found.measured.peak_bytes is not None:
            figures.append(("bytes held at most in a forward pass", float(found.measured.peak_bytes), {}, f"of one row, on {found.measured.device}"))
    if found.bottleneck_ratio is not None:
        figures.append(("bottleneck ratio", found.bottleneck_ratio, {}, "numbers that are read for each number of the latents"))
    if found.accuracy_per_gflop is not None:
        figures.append(("accuracy for each billion operations", found.accuracy_per_gflop, {}, "accuracy over operations of a forward pass"))
    made = [Measure(name, value, 1, None, reference, verdict, reason) for name, value, reference, reason in figures]
    return Diagnosis(KEY, TITLE, verdict, " ".join(found.summary()[1:]), tuple(made)), found


def largest(subject: Subject, examples: Mapping[str, Examples]) -> Examples:
    """The row that has most to read."""
    rows = [some.some([i]) for some in examples.values() for i in range(len(some))]

    def size(one: Examples) -> tuple[int, int]:
        entries = [one.rows[0][name] for name in subject.modalities if name in one.rows[0]]
        return len(entries), sum(entry.numel() for entry in entries)

    return max(rows, key=size)


def as_table(found: CostReport) -> dict[str, Any]:
    """Table 1 with this model's rows, its blocks and its modalities, in the form that the page takes: rows of strings."""
    return {"sentence": " ".join(found.summary()), "tables": [_plain(table) for table in found.tables()]}


def _plain(table: Table) -> dict[str, Any]:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return {
        "title": str(table.title),
        "columns": [str(column.header) for column in table.columns],
        "rows": [list(row) for row in zip(*columns, strict=True)],
    }
