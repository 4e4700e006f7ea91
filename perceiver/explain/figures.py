"""Figures: a report's pictures for papers, drawn with Matplotlib (`pip install 'perceiver-lightning[figures]'`), as SVG and PDF."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perceiver.explain.findings import Report
from perceiver.explain.measure import Measure
from perceiver.explain.modalities.shapley import VALUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#b4552d", "#2f6f8f", "#5a7d2a", "#7d3c98", "#8a6d00", "#9c2f62")
FORMATS = ("svg", "pdf")


def draw(found: Report, folder: Path) -> list[Path]:
    """Draws each figure for which a report has measures.

    Args:
        found: the report.
        folder: in which `figures/` is made.

    Returns:
        The files.

    Raises:
        ValueError: when Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("figures need Matplotlib: pip install 'perceiver-lightning[figures]'") from error
    place = folder / "figures"
    place.mkdir(parents=True, exist_ok=True)
    files = []
    # The same report gives the same file, to the byte.
    with matplotlib.rc_context({"svg.hashsalt": "perceiver", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for name, (panels, paint) in FIGURES.items():
            shown = panels(found)
            if not shown:
                continue
            figure = Figure(figsize=(2.4 * max(len(shown), 2) + 0.8, 2.8), layout="constrained")
            axes = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
            for ax, panel in zip(axes, shown, strict=True):
                paint(ax, found, panel)
            for kind in FORMATS:
                figure.savefig(place / f"{name}.{kind}", metadata={"Date": None} if kind == "svg" else {"CreationDate": None})
                files.append(place / f"{name}.{kind}")
    return files


def named(found: Report, name: str, **of: str) -> list[Measure]:
    """Measures of a name that have a value, of what is asked for."""
    return [m for m in found.measures if m.name == name and m.value is not None and all(m.of.get(key) == value for key, value in of.items())]


def datasets_with(name: str) -> Callable[[Report], list[str]]:
    """The datasets that have a measure of a name, in the order of the report."""
    return lambda found: [dataset for dataset in found.rows if named(found, name, dataset=dataset)]


def bars(ax: "Axes", measures: Sequence[Measure], labels: Sequence[str], colours: Sequence[str], reference: str) -> None:
    """A bar a measure in percent, with its interval, and a tick for a reference."""
    places = np.arange(len(measures))
    values = np.array([100 * (measure.value or 0.0) for measure in measures])
    ax.bar(places, values, color=colours, width=0.7)
    for place, measure, value in zip(places, measures, values, strict=True):
        if measure.interval is not None:
            low, high = (100 * end for end in measure.interval)
            ax.errorbar(place, value, [[max(0.0, value - low)], [max(0.0, high - value)]], color="black", capsize=2, linewidth=0.9)
        if reference in measure.reference:
            ax.hlines(100 * measure.reference[reference], place - 0.42, place + 0.42, color="black", linestyle=":", linewidth=1.2)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_xticks(places, labels, rotation=35, ha="right", rotation_mode="anchor")


def worth(ax: "Axes", found: Report, dataset: str) -> None:
    """Shapley values of accuracy, with what shuffled labels would give."""
    mine = named(found, VALUE, dataset=dataset)
    names = [measure.of["modality"] for measure in mine]
    bars(ax, mine, names, [_colour(found, name) for name in names], "shuffled label")
    _titled(ax, dataset, "worth, points of accuracy")


def mass(ax: "Axes", found: Report, dataset: str) -> None:
    """Attention mass in each read; dotted, what it would be if all tokens were attended alike."""
    mine = named(found, "mass", dataset=dataset)
    reads = list(dict.fromkeys(measure.of["layer"] for measure in mine))
    labels = [f"{measure.of['modality']}, {reads.index(measure.of['layer']) + 1}" for measure in mine]
    bars(ax, mine, labels, [_colour(found, measure.of["modality"]) for measure in mine], "uniform")
    _titled(ax, dataset, "attention mass, %")


def faithfulness(ax: "Axes", found: Report, dataset: str) -> None:
    """Comprehensiveness of each explanation; dotted, that of random order. Pale: no better than random, and not to be shown."""
    mine = named(found, "comprehensiveness", dataset=dataset)
    bars(ax, mine, [measure.of["explanation"] for measure in mine], ["#4a4a4a" if m.verdict == "ok" else "#c9c9c9" for m in mine], "random")
    _titled(ax, dataset, "comprehensiveness, %")


def rank(ax: "Axes", found: Report, dataset: str) -> None:
    """Effective rank of a row's latents by depth; dotted, before training."""
    mine = named(found, "effective rank", dataset=dataset)
    depth = np.arange(len(mine))
    ax.plot(depth, [measure.value or 0.0 for measure in mine], color="#4a4a4a", marker="o", markersize=3)
    if all("untrained" in measure.reference for measure in mine):
        ax.plot(depth, [measure.reference["untrained"] for measure in mine], color="black", linestyle=":")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("block")
    _titled(ax, dataset, "effective rank")


def ladder(ax: "Axes", found: Report, dataset: str) -> None:
    """The accuracy of simpler models on the same budget."""
    rungs = [rung for rung in found.ladder if dataset in rung.accuracy]
    ax.barh(
        [rung.name for rung in rungs], [100 * rung.accuracy[dataset] for rung in rungs], color=["#4a4a4a" if r.attends else "#a9a9a9" for r in rungs]
    )
    _titled(ax, dataset, "")
    ax.set_xlabel("accuracy, %")


def _colour(found: Report, modality: str) -> str:
    names = [str(one["name"]) for one in found.modalities]
    return COLOURS[names.index(modality) % len(COLOURS)] if modality in names else "#a9a9a9"


def _titled(ax: "Axes", title: str, label: str) -> None:
    ax.set_title(title, fontsize=9)
    if ax.get_subplotspec() is None or ax.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        ax.set_ylabel(label)


Panels = Callable[[Report], list[str]]
FIGURES: Mapping[str, tuple[Panels, Callable[[Any, Report, str], None]]] = {
    "worth": (datasets_with(VALUE), worth),
    "mass": (datasets_with("mass"), mass),
    "faithfulness": (datasets_with("comprehensiveness"), faithfulness),
    "rank": (datasets_with("effective rank"), rank),
    "ladder": (lambda found: [dataset for dataset in found.rows if any(dataset in rung.accuracy for rung in found.ladder)], ladder),
}
