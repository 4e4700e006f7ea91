"""Beyond attention: is it worth anything here, or do simpler models answer as well on the same budget?

The ladder goes from the commonest class over models without attention, and attention that does not depend on the input, to the whole model. Its
rungs are the controls of a run, which were trained on the same rows, steps and optimizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perceiver.explain.measure import Diagnosis, Measure, Verdict, not_applicable
from perceiver.explain.table import Results, by_dataset, names_of
from perceiver.explain.wording import listed

KEY, TITLE = "beyond", "Beyond attention"
FULL = "full model"


@dataclass(frozen=True)
class Rung:
    """One model of the ladder.

    Attributes:
        name: of the control.
        accuracy: by dataset.
        parameters: how many; None where it is not known.
        attends: whether its attention depends on the input.
    """

    name: str
    accuracy: Mapping[str, float]
    parameters: int | None = None
    attends: bool = False

    @property
    def mean(self) -> float:
        """Over datasets."""
        return sum(self.accuracy.values()) / max(len(self.accuracy), 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the form that the page takes."""
        return {"name": self.name, "parameters": self.parameters, "accuracy": dict(self.accuracy)}


def ladder(results: Results, datasets: tuple[str, ...]) -> list[Rung]:
    """The controls of a run and the model itself, worst first; empty where there are no controls."""
    rungs = [_rung(results, name, f"test/baseline_{name}", datasets) for name in names_of(results, "baseline_")]
    if not rungs:
        return []
    full = Rung(FULL, by_dataset(results, "test/accuracy", datasets), _whole(results.get("parameters/model")), True)
    return sorted([*rungs, full], key=lambda rung: rung.mean)


def _rung(results: Results, name: str, prefix: str, datasets: tuple[str, ...]) -> Rung:
    return Rung(name, by_dataset(results, prefix, datasets), _whole(results.get(f"parameters/{name}")), bool(results.get(f"attends/{name}", 0.0)))


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def alone(results: Results, modalities: Sequence[str], datasets: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """The accuracy of the controls that read one modality alone (`only_<modality>`), by dataset and modality."""
    found = {name: by_dataset(results, f"test/baseline_only_{name}", datasets) for name in modalities}
    return {dataset: {name: of[dataset] for name, of in found.items() if dataset in of} for dataset in datasets}


def diagnose(rungs: list[Rung], rows: Mapping[str, int]) -> Diagnosis:
    """Sets the model beside the best rung that does without attention to the input, and beside the best of all.

    Args:
        rungs: of the ladder.
        rows: tested of each dataset; intervals are those of two shares of as many rows (Wald), too wide rather than too narrow for answers to the
            same rows. They are of one training each, and know nothing of how much other seeds would differ. Without the rows of a dataset there is no
            interval and no verdict.
    """
    if not any(rung.name != FULL for rung in rungs):
        reason = "no control was trained in this run: see configs/ladder.yaml"
        return Diagnosis(KEY, TITLE, "not applicable", f"Not applicable: {reason}.", (not_applicable("gain over the ladder", reason),))
    full = next(rung for rung in rungs if rung.name == FULL)
    measures = []
    for dataset, accuracy in full.accuracy.items():
        for what, some in (("without attention", [rung for rung in rungs if not rung.attends]), ("of all", [rung for rung in rungs if rung != full])):
            there = [rung for rung in some if dataset in rung.accuracy]
            if there:
                best = max(there, key=lambda rung: rung.accuracy[dataset])
                measures.append(_gain(dataset, accuracy, best, what, rows.get(dataset, 0)))
    plain = [measure for measure in measures if measure.of["ladder"] == "without attention"]
    bought = [measure.of["dataset"] for measure in plain if measure.verdict == "ok"]
    nothing = [measure.of["dataset"] for measure in plain if measure.verdict == "warning"]
    verdict: Verdict = "ok" if bought else "warning" if nothing else "not applicable"
    return Diagnosis(KEY, TITLE, verdict, _sentence(plain, bought, nothing), tuple(measures))


def _gain(dataset: str, accuracy: float, best: Rung, what: str, rows: int) -> Measure:
    other = best.accuracy[dataset]
    gain = accuracy - other
    reason = f"{best.name} is right in {100 * other:.1f} % of the rows, the model in {100 * accuracy:.1f} %"
    of = {"dataset": dataset, "ladder": what, "best": best.name}
    if not rows:
        reason += f": how many rows were tested is not known (test/rows/{dataset}), so nobody can say whether that is chance"
        return not_applicable("gain over the ladder", reason, of=of)
    spread = 1.96 * ((accuracy * (1 - accuracy) + other * (1 - other)) / rows) ** 0.5
    interval = gain - spread, gain + spread
    better = interval[0] > 0
    if not better:
        reason += ": no gain that can be told from chance" if what == "of all" else ": attention buys nothing here"
    reason += "; each of one seed, and other seeds may differ by more than this interval"
    return Measure("gain over the ladder", gain, rows, interval, {best.name: other}, "ok" if better else "warning", reason, of)


def _sentence(plain: list[Measure], bought: list[str], nothing: list[str]) -> str:
    """What the ladder says, for people."""
    if not plain:
        return "No control without attention was trained."
    if not bought and not nothing:
        return "Not applicable: how many rows were tested is not known, so nobody can say whether a difference is chance."
    told = ""
    if bought:
        gains = [f"{100 * (measure.value or 0.0):.0f} for {measure.of['dataset']}" for measure in plain if measure.verdict == "ok"]
        told = f"Attention buys these points of accuracy over the best model that does without: {listed(gains)}."
    if nothing:
        told += f" It buys nothing for {listed(nothing)}." if bought else f"Attention buys nothing for {listed(nothing)}."
    return f"{told} That is of one seed."
