"""Puts the results of the recipes into the README, from the `metrics.json` of their runs.

    python benchmarks/results.py --hardware "2 cores of an Intel Xeon"

Recipes that were not run are left out of the table, and said to be. The date is that of the newest file.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import mean

from perceiver.data import FreeSpokenDigits

RUNS = Path("runs")
START, STOP = "<!-- results of the recipes -->", "<!-- end of the results -->"
Line = tuple[str, str, str, str]  # what, asked, found, seconds of training


def metrics(run: str) -> dict[str, float]:
    """The results of a run; none where it was not run."""
    file = RUNS / run / "metrics.json"
    return json.loads(file.read_text()) if file.exists() else {}


def percent(share: float) -> str:
    """With one digit, as accuracies of some thousand rows deserve."""
    return f"{100 * share:.1f}"


def recipe(run: str, dataset: str, what: str, asked: str) -> Iterator[Line]:
    """The line of a recipe with one dataset."""
    found = metrics(run)
    if found:
        yield f"`configs/{run}.yaml`: {what}", asked, percent(found[f"test/accuracy/{dataset}"]), f"{found['train/seconds']:.0f}"


def lines() -> Iterator[Line]:
    """All lines of the table."""
    yield from recipe("mnist", "mnist", "MNIST", "at least 99.0")
    yield from recipe("spoken_digits", "spoken_digits", "spoken digits, official split", "at least 98.0")
    speakers = [found for name in FreeSpokenDigits.speakers if (found := metrics(f"spoken_digits_without_{name}"))]
    if len(speakers) == len(FreeSpokenDigits.speakers):
        accuracies = [found["test/accuracy/spoken_digits"] for found in speakers]
        told = f"{percent(mean(accuracies))} ({percent(min(accuracies))} to {percent(max(accuracies))})"
        yield "the same, one speaker left out (mean of six)", "beside it", told, f"{sum(found['train/seconds'] for found in speakers):.0f}"
    yield from recipe("banking77", "banking77", "Banking77, raw bytes", "above the next line")
    if found := metrics("banking77_byte_ngrams"):
        told = f"{found['train/seconds']:.0f}"
        yield "logistic regression on byte n-grams (`benchmarks/byte_ngrams.py`)", "beside it", percent(found["test/accuracy/banking77"]), told
    yield from recipe("digit_sums", "digit_sums", "sum of a written and a spoken digit", "at least 97.0")
    if found := metrics("digit_sums"):
        for modality in ("image", "audio"):
            yield f"the same without the {modality}", "10 +- 2", percent(found[f"test/accuracy_without_{modality}/digit_sums"]), ""
    if found := metrics("mixed"):
        seconds = f"{found['train/seconds']:.0f}"
        for name in ("mnist", "spoken_digits", "banking77", "digit_sums"):
            alone = metrics(name).get(f"test/accuracy/{name}")
            told = percent(found[f"test/accuracy/{name}"]) + (
                f" ({100 * (found[f'test/accuracy/{name}'] - alone):+.1f})" if alone is not None else ""
            )
            yield f"`configs/mixed.yaml`: {name} (difference to its own recipe)", "within 1.0", told, seconds
            seconds = ""
        for modality in ("image", "audio"):
            accuracy, loss = (found[f"test/{what}_without_{modality}/digit_sums"] for what in ("accuracy", "loss"))
            yield (
                f"its sums without the {modality} (mean loss; ln 10 = 2.30 says that it knows nothing)",
                "10 +- 2",
                f"{percent(accuracy)} ({loss:.2f})",
                "",
            )


def table(hardware: str) -> str:
    """The table, and where it comes from."""
    rows = list(lines())
    newest = max((file.stat().st_mtime for file in RUNS.glob("*/metrics.json")), default=0)
    missing = [name for name in ("mnist", "spoken_digits", "banking77", "digit_sums", "mixed") if not metrics(name)]
    told = (
        f"Test accuracy in %, on {hardware}, at {date.fromtimestamp(newest)}; made by `python benchmarks/results.py` from the runs' `metrics.json`."
    )
    if missing:
        told += f" Not run: {', '.join(missing)}."
    body = ["| | asked | found | seconds of training |", "|---|---|---|---|", *("| " + " | ".join(line) + " |" for line in rows)]
    return "\n".join([told, "", *body])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hardware", required=True)
    options = parser.parse_args()
    readme = Path("README.md")
    before, rest = readme.read_text().split(START)
    readme.write_text(f"{before}{START}\n\n{table(options.hardware)}\n\n{STOP}{rest.split(STOP)[1]}")
    print(table(options.hardware))
