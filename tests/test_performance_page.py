"""The page on performance shows what was recorded."""

import json
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/performance.md").read_text()


def test_the_table_is_made_of_what_was_recorded(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    assert runpy.run_path("benchmarks/run.py")["page"](PAGE) == PAGE


def test_what_has_the_same_weights_had_the_same_outputs():
    recorded = json.loads((ROOT / "benchmarks/results/speed.json").read_text())
    compared = [one for one in recorded if one["peer"] in ("transformers", "sdpa")]
    assert compared and all(one["error"] < 1e-5 for one in compared)
