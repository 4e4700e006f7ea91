"""Inaccurate predictions: how often is the model right, and is it as sure as it should be, with all that a row has and with less?

Letters: n rows, k classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perceiver.explain.calibration.measures import ACCURACY, ALL, ECE, TEMPERATURE, measures, temperature_measure
from perceiver.explain.measure import FREE, Diagnosis, Measure, Price, not_applicable, worst
from perceiver.explain.modalities.coalitions import Coalitions
from perceiver.explain.modalities.missing import patterns
from perceiver.explain.wording import spelled

KEY, TITLE = "prediction", "Inaccurate predictions"
Validation = tuple[Float[Tensor, "n k"], Int[Tensor, " n"]]


def diagnose_predictions(found: Mapping[str, Coalitions], validation: Mapping[str, Validation] | None = None, *, price: Price = FREE) -> Diagnosis:
    """Measures the answers to each dataset, and those to each set of modalities; asks the model nothing.

    The verdict is on the rows as they are. What is said of rows from which modalities were taken away stands beside it.

    Args:
        found: answers by dataset.
        validation: by dataset, answers to other rows and their right classes, to fit a temperature to.
        price: of the answers to these rows. That of all others is the price of `found`, and all that is made of the same answers has the same.
    """
    everything: list[Measure] = []
    as_they_are: list[Measure] = []
    sentences = []
    for dataset, mine in found.items():
        if not mine.log_probabilities:
            as_they_are += [not_applicable(name, mine.obstacle, of=mine.of()) for name in (*ALL, TEMPERATURE)]
            continue
        heat = temperature_measure((validation or {}).get(dataset), mine.of())
        heat = heat if heat.value is None else replace(heat, price=price)
        whole = [*_paid(measures(mine.full, mine.target, of=mine.of(), temperature=heat.value), mine.price), heat]
        parts = [
            _paid(measures(answers[rows], mine.target[rows], of=mine.of(*names), temperature=heat.value), mine.price)
            for names, rows, answers in by_presence(mine)
        ]
        as_they_are += whole
        everything += [measure for part in parts for measure in part]
        sentences.append(sentence(dataset, whole, parts))
    said = " ".join(sentences) or (f"Not applicable: {as_they_are[0].reason}." if as_they_are else "There are no rows.")
    return Diagnosis(KEY, TITLE, worst([measure.verdict for measure in as_they_are]), said, (*as_they_are, *everything))


def _paid(made: list[Measure], price: Price) -> list[Measure]:
    return [replace(measure, price=price) for measure in made]


def by_presence(found: Coalitions) -> Iterator[tuple[list[str], Bool[Tensor, " n"], Float[Tensor, "n k"]]]:
    """Sets of modalities, the rows that can answer with just these, and the answers; not the whole of all rows once more.

    Where not every set was asked, only sets that some rows come with.
    """
    if found.obstacle:
        mine = patterns(found)
        for has, rows in mine.items():
            if len(mine) > 1:
                yield [name for name in (*found.players, *found.kept) if name in has or name in found.kept], rows, found.full
        return
    for some, answers in found.log_probabilities.items():
        rows = torch.stack([found.present[name] for name in some]).all(0) if some else torch.zeros(len(found), dtype=torch.bool)
        if rows.any() and not (some == found.everyone and rows.all()):
            yield [name for name in (*found.players, *found.kept) if name in some or name in found.kept], rows, answers


def sentence(dataset: str, whole: list[Measure], parts: list[list[Measure]]) -> str:
    """How right and how sure the model is, in plain words."""
    accuracy, error = _named(whole, ACCURACY), _named(whole, ECE)
    said = f"In {dataset}, {_percent(accuracy.value)} of {accuracy.n} answers are right ({_percent(accuracy.reference['majority'])} for always "
    said += f"the commonest class), and the model is {_percent(error.reference['confidence'])} sure of them on average"
    if error.interval is None:
        said += f"; {error.reason}"
    elif error.verdict == "warning":
        said += ": it is not as often right as it is sure"
    surest = max((_named(part, ECE) for part in parts), key=_too_sure, default=None)
    if surest is not None and surest.verdict == "warning" and _too_sure(surest) > 0:
        said += f". With {spelled(surest.of['modality'])} and nothing else it is {_percent(surest.reference['confidence'])} sure"
        said += f" and {_percent(surest.reference['accuracy'])} right"
    return said + "."


def _named(measures: list[Measure], name: str) -> Measure:
    return next(measure for measure in measures if measure.name == name)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"


def _too_sure(error: Measure) -> float:
    return error.reference["confidence"] - error.reference["accuracy"]
