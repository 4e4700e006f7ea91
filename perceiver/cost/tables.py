"""Tables and sentences of a report, for people who have not met the numbers before."""

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table

from perceiver.cost.figures import Agreement, Computed, Share, TableRow, Transformer
from perceiver.cost.measure import TIMES, Measured

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
BLOCKS = {
    "adapters": "the adapter of {}",
    "cross_attends": "reading the inputs",
    "stacks": "the layers on the latents",
    "decoder": "the decoder, which answers the queries",
    "heads": "the heads",
}


def short(number: int | float) -> str:
    """Three digits and a unit: 406 G."""
    for size, unit in UNITS:
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return f"{number:.3g}"


def flops(number: int | float) -> str:
    """FLOPs in words."""
    return f"{short(number)}FLOPs" if number >= 999.5 else f"{number:.0f} FLOPs"


def of_parameters(model: str, parameters: int, shared: int) -> str:
    """How large a model is."""
    return f"{model} has {short(parameters)} parameters" + (f", of which {short(shared)} are used by several runs." if shared else ".")


def of_flops(dense: int, factored: int, training: int, rows: int) -> str:
    """How much it computes."""
    whose = "One input" if rows == 1 else f"A batch of {rows}"
    less = f", {flops(factored)} as this library runs" if factored != dense else ""
    less += ", large grids read in parts" if factored < dense else ""
    return f"{whose} takes {flops(dense)} forward{less}; a training step takes {flops(training)}."


def of_largest(blocks: Sequence[tuple[str, Computed, Computed]], total: int) -> str:
    """What most of it goes into, blocks of one kind together."""
    kinds: dict[str, int] = {}
    for name, dense, _ in blocks:
        kind, _, rest = name.removeprefix("models.").partition(".")
        words = BLOCKS.get(kind, name).format(rest) if not name.startswith("models.") else f"the model of {kind}"
        kinds[words] = kinds.get(words, 0) + dense.forward
    what, most = max(kinds.items(), key=lambda item: item[1], default=("nothing", 0))
    return f"Most of that, {100 * most / max(total, 1):.0f} %, goes into {what}."


def of_path(steps: int, hops: int, ratio: float | None) -> str:
    """How deep it is, and how narrow."""
    apart = "1 hop" if hops == 1 else f"{hops} hops"
    narrow = "" if ratio is None else f" The inputs are {ratio:.3g} times as many numbers as the latents that read them."
    follow = f"{steps} blocks of attention must follow one another" if steps else "there is no attention"
    return f"From any input to any output it is {apart}, and {follow}.{narrow}"


def of_transformer(one: Transformer, inputs: int) -> str:
    """What it would take without latents."""
    times = f"{one.times:,.0f}" if one.times >= 100 else f"{one.times:.3g}"
    return f"A transformer of as many layers over all {inputs:,} inputs would take {flops(one.computed.forward)}, {times} times as much."


def of_agreement(agreement: Mapping[str, Agreement]) -> str:
    """Whether the numbers are to be believed."""
    worst, one = max(agreement.items(), key=lambda item: item[1].difference)
    if one.agrees:
        return (
            f"Closed forms and PyTorch's counter agree within {100 * one.difference:.2g} %."
            if one.difference
            else "Closed forms and PyTorch's counter agree."
        )
    return (
        f"Closed forms and PyTorch's counter DISAGREE ({worst}): {one.closed:,} and {one.counted:,}, {100 * one.difference:.1f} % apart. "
        "Some layer of this model has no closed form here."
    )


def of_measured(one: Measured) -> str:
    """How long it took, where it was run."""
    held = "" if one.peak_bytes is None else f", and {short(one.peak_bytes)}B were held at most"
    whose = "1 row" if one.rows == 1 else f"{one.rows} rows"
    return f"A forward pass of {whose} took {one.milliseconds:.3g} ms, the median of {TIMES}, on {one.device}{held}."


def first(rows: Sequence[TableRow], transformer: Transformer | None, size: int) -> Table:
    """Table 1, a layer a row.

    Args:
        rows: of the table, each for one row of a batch.
        transformer: over all inputs of a batch; None where there is none.
        size: rows of that batch.
    """
    table = Table("layer", "work", "FLOPs", "steps", "", "longest path", "", title='Table 1 of "Attention Is All You Need", with this model')
    for column in table.columns[2::2]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.layer, row.work, short(row.flops), row.steps, f"{row.num_steps:,}", row.path, f"{row.num_hops:,}")
    if transformer is not None:
        table.add_row("a transformer over all inputs", "L M^2 D", short(transformer.computed.forward / size), "", "", "1", "1")
    return table


def shares(title: str, rows: Sequence[Share], dense: Computed, factored: Computed) -> Table:
    """Blocks or modalities, one a row, and their sum.

    Columns: parameters; runs of a block, or reads of a modality; FLOPs of the forward pass with their share, and in parts where that is another
    number; FLOPs of a training step; keys and values, % of the forward pass; bytes of soft weights, were they held; bytes that are kept for the
    backward pass.
    """
    columns: dict[str, Callable[[Share], str]] = {
        "parameters": lambda row: short(row.parameters),
        "runs": lambda row: str(row.runs or ""),
        "FLOPs": lambda row: short(row.dense.forward),
        "%": lambda row: f"{100 * row.dense.forward / max(dense.forward, 1):.1f}",
    }
    if dense.forward != factored.forward:
        columns |= {
            "in parts": lambda row: short(row.factored.forward),
            "% ": lambda row: f"{100 * row.factored.forward / max(factored.forward, 1):.1f}",
        }
    columns |= {
        "training": lambda row: short(row.dense.training),
        "keys, values %": lambda row: f"{100 * row.dense.kv_share:.0f}" if row.dense.kv_share else "",
        "soft weights, bytes": lambda row: short(row.dense.attention_bytes) if row.dense.attention_bytes else "",
    }
    if any(row.activation_bytes is not None for row in rows):
        columns["kept, bytes"] = lambda row: short(row.activation_bytes or 0)
    table = Table("", *columns, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.name, *(told(row) for told in columns.values()))
    return table
