"""The results of the recipes: records what runs left, and puts them into the README.

    python benchmarks/results.py record mnist --hardware "2 cores of an Intel Xeon"     runs/mnist/metrics.json -> results/recipes/mnist.json
    python benchmarks/results.py table                                                  results/recipes/ -> README.md

Recipes that were not recorded are left out of the table, and said to be.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import mean

from marked import filled

from perceiver.data import FreeSpokenDigits

RUNS, RECORDED, README = Path("runs"), Path("benchmarks/results/recipes"), Path("README.md")
START, STOP = "<!-- results of the recipes -->", "<!-- end of the results -->"
RECIPES = ("mnist", "spoken_digits", "banking77", "digit_sums", "mixed")
Line = tuple[str, str, str, str]  # what, asked, found, seconds of training


def record(run: str, hardware: str) -> Path:
    """Keeps the results of a run, with the day on which it ended, and where it ran."""
    file = RUNS / run / "metrics.json"
    if not file.exists():
        raise SystemExit(f"error: {file} is not there: train it first, with `python train.py fit --config configs/{run}.yaml`")
    day = date.fromtimestamp(file.stat().st_mtime).isoformat()
    RECORDED.mkdir(parents=True, exist_ok=True)
    kept = RECORDED / f"{run}.json"
    kept.write_text(json.dumps({"date": day, "hardware": hardware, "metrics": json.loads(file.read_text())}, indent=2) + "\n")
    return kept


def metrics(run: str) -> dict[str, float]:
    """The results of a run; none where it was not recorded."""
    file = RECORDED / f"{run}.json"
    return json.loads(file.read_text())["metrics"] if file.exists() else {}


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


def table() -> str:
    """The table, and where it comes from."""
    recorded = [json.loads(file.read_text()) for file in sorted(RECORDED.glob("*.json"))]
    places = sorted({f"{one['hardware']} at {one['date']}" for one in recorded})
    missing = [name for name in RECIPES if not metrics(name)]
    told = f"Test accuracy in %, on {'; '.join(places)}. Made by `python benchmarks/results.py table` from `benchmarks/results/recipes/`."
    if missing:
        told += f" Not recorded: {', '.join(missing)}."
    body = ["| | asked | found | seconds of training |", "|---|---|---|---|", *("| " + " | ".join(line) + " |" for line in lines())]
    return "\n".join([told, "", *body])


def readme(text: str) -> str:
    """The README with the table in its place."""
    return filled(text, START, STOP, table())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("run", nargs="+")
    recording.add_argument("--hardware", required=True)
    commands.add_parser("table")
    options = parser.parse_args()
    if options.command == "record":
        for run in options.run:
            print(record(run, options.hardware))
    else:
        README.write_text(readme(README.read_text()))
        print(table())
