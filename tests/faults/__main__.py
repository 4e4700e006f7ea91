"""Prints the scoreboard of the fault suite, row by row, and exits with 1 when this library fails one."""

import argparse
import datetime
import platform
from importlib.metadata import version
from pathlib import Path

from tests.faults.scoreboard import SUBJECTS, attempts, rows, write


def main() -> int:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", choices=sorted(rows()), help="numbers of the rows; all when not given")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="who they are tried on; all when not given")
    parser.add_argument("--json", type=Path, help="file for the outcomes")
    asked = parser.parse_args()
    versions = {name: version(name) for name in ("torch", "lightning", "transformers", "accelerate", "safetensors")}
    versions |= {"python": platform.python_version(), "date": datetime.date.today().isoformat()}
    print(", ".join(f"{name} {number}" for name, number in versions.items()), flush=True)
    outcomes = []
    for one in attempts(asked.rows, asked.subjects):
        outcomes.append(one)
        print(f"{one.row:2d} {one.subject:12s} {one.outcome:4s} {one.seconds:6.1f} s  {one.fault}\n   {one.said}", flush=True)
    for subject in asked.subjects:
        mine = [one.outcome for one in outcomes if one.subject == subject]
        print(f"{subject}: {mine.count('pass')} passed, {mine.count('fail')} failed, {mine.count('n/a')} not applicable")
    if asked.json:
        write(outcomes, versions, asked.json)
    return int(any(one.outcome == "fail" and one.subject == "ours" for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
