"""The scoreboard of the guide: what `python -m tests.faults --json docs/reliability.json` found, as the table of docs/reliability.md.

python -m tests.faults.page
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent.parent / "docs"
FOUND, PAGE = DOCS / "reliability.json", DOCS / "reliability.md"
BEGIN, END = "<!-- scoreboard -->", "<!-- /scoreboard -->"
NAMES = {"ours": "perceiver-lightning", "lightning": "Lightning", "transformers": "Trainer", "accelerate": "accelerate"}


def table(found: Mapping[str, Any]) -> str:
    """The outcomes, one line a fault, with versions, date, and what was passed of what applies."""
    outcomes: dict[tuple[int, str], dict[str, str]] = {}
    for one in found["outcomes"]:
        outcomes.setdefault((one["row"], one["fault"]), {})[one["subject"]] = one["outcome"]
    subjects = [name for name in NAMES if any(name in row for row in outcomes.values())]
    lines = [f"| # | Fault: what must happen | {' | '.join(NAMES[name] for name in subjects)} |", f"|---|---|{'---|' * len(subjects)}"]
    for (number, fault), row in sorted(outcomes.items()):
        lines.append(f"| {number} | {fault} | {' | '.join(row.get(name, '') for name in subjects)} |")
    passed = [[row.get(name) for row in outcomes.values()] for name in subjects]
    totals = [f"{mine.count('pass')} of {mine.count('pass') + mine.count('fail')}" for mine in passed]
    lines.append(f"| | passed, of those that apply | {' | '.join(totals)} |")
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return "\n".join([*lines, "", f"With {versions}."])


def page(text: str, found: Mapping[str, Any]) -> str:
    """The page with the table in its place."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table(found)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), json.loads(FOUND.read_text())))
