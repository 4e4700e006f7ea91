"""The scoreboard: all rows, tried on their subjects."""

import importlib
import json
import pkgutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
SUBJECTS = ("ours", "lightning", "transformers", "accelerate")


class Fell(Exception):
    """A subject does not do what must happen."""


@dataclass(frozen=True)
class Outcome:
    """What became of one subject at one fault.

    Args:
        row: number of the fault.
        fault: what happened to it.
        subject: who it happened to.
        outcome: pass, fail or n/a.
        said: what it said, or what went wrong.
        seconds: that it took.
    """

    row: int
    fault: str
    subject: str
    outcome: str
    said: str
    seconds: float


def rows() -> dict[int, ModuleType]:
    """All rows by number."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.name.startswith("row_"))
    return {int(name.split("_")[1]): importlib.import_module(f"tests.faults.{name}") for name in names}


def attempt(number: int, row: ModuleType, subject: str) -> Outcome:
    """Tries one row on one subject, in a folder that is removed afterwards."""
    fault = f"{row.FAULT}: {row.EXPECTED}"
    run = getattr(row, subject, None)
    if run is None:
        return Outcome(number, fault, subject, "n/a", getattr(row, "NOT_APPLICABLE", {}).get(subject, "nothing of that kind there"), 0.0)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"fault-{number:02d}-{subject}-", ignore_cleanup_errors=True) as folder:
        try:
            outcome, said = "pass", run(Path(folder))
        except Fell as fell:
            outcome, said = "fail", str(fell)
        said = said.replace(folder, "FOLDER").replace(f"{ROOT}/", "")
    return Outcome(number, fault, subject, outcome, " ".join(said.split())[:300], round(time.monotonic() - start, 1))


def attempts(numbers: Sequence[int] | None, subjects: Sequence[str]) -> Iterator[Outcome]:
    """Tries rows on subjects, one after another."""
    for number, row in rows().items():
        if numbers is None or number in numbers:
            for subject in subjects:
                yield attempt(number, row, subject)


def write(outcomes: Sequence[Outcome], versions: dict[str, str], file: Path) -> None:
    """All outcomes as JSON."""
    file.write_text(json.dumps({"versions": versions, "outcomes": [asdict(one) for one in outcomes]}, indent=2) + "\n")
