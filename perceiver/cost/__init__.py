"""Cost: what a model takes, before it is trained: parameters, FLOPs, memory, path length, steps that must follow one another, and whose share it is.

    report = perceiver.cost.cost_report(model)       # nothing is run
    report.dense.forward, report.factored.forward    # FLOPs with every token formed, and as this library runs
    report.as_dict(); report.summary(); report.tables()

`perceiver cost CONFIG` prints it for a configuration. `forms` has the closed forms, as functions of sizes. docs/cost.md says what the numbers mean.
"""

from perceiver.cost.assemble import cost_report, largest_entries
from perceiver.cost.figures import Agreement, Computed, Share, Sizes, TableRow, Transformer
from perceiver.cost.measure import Measured, measured
from perceiver.cost.report import CostReport

__all__ = [
    "Agreement",
    "Computed",
    "CostReport",
    "Measured",
    "Share",
    "Sizes",
    "TableRow",
    "Transformer",
    "cost_report",
    "largest_entries",
    "measured",
]
