"""The page on performance shows what was recorded, and what was recorded is what the rows promise."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import benchmark_file

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/performance.md").read_text()
RECORDED = json.loads((ROOT / "benchmarks/results/speed.json").read_text())


@pytest.fixture
def benchmark(monkeypatch) -> dict[str, Any]:
    return benchmark_file("run", monkeypatch)


def test_the_table_is_made_of_what_was_recorded(benchmark):
    assert benchmark["page"](PAGE) == PAGE


def test_the_tables_of_the_gpu_are_made_of_what_was_recorded(monkeypatch):
    assert benchmark_file("gpu", monkeypatch)["page"](PAGE) == PAGE
    lines = json.loads((ROOT / "benchmarks/results/gpu.json").read_text())["lines"]
    exact = [one["error"] for one in lines if one.get("peer") in ("tiles", "transformers", "efficient")]
    assert exact and max(exact) < 1e-5


def test_each_row_that_was_recorded_is_one_that_is_measured(benchmark):
    rows = benchmark["ROWS"]
    for one in RECORDED:
        assert one["peer"] in ((rows[one["row"]].peers if one["row"] in rows else ()) or (None,))
        assert one["row"] in benchmark["NAMES"]


def test_what_has_the_same_weights_had_the_same_outputs(benchmark):
    compared = [one for one in RECORDED if one["peer"] in ("transformers", "sdpa")]
    assert compared and all(one["error"] < (2e-2 if benchmark["ROWS"][one["row"]].bf16 else 1e-5) for one in compared)


def test_a_whole_video_was_written_in_less_than_eight_gigabytes():
    (found,) = (one for one in RECORDED if one["row"] == "whole-video")
    assert found["ours_bytes"] < 8e9


def test_recipes_have_a_table_of_their_own(benchmark):
    empty = dict.fromkeys(("peer", "peer_s", "ours_s", "ratio", "error", "peer_bytes", "ours_bytes")) | {"made": "a machine, a day"}
    speed = empty | {"row": "whole-video", "peer": "transformers", "peer_s": 9.0, "ours_s": 3.0, "ratio": 3.0, "ours_bytes": 2**20}
    recipe = empty | {"row": "quickstart", "ours_s": 0.0625, "samples_per_s": 1024.4, "outside": 0.496}
    failed = empty | {"row": "mixed", "samples_per_s": None, "outside": None}
    alone = benchmark["table"]([speed])
    assert benchmark["table"]([speed, recipe, failed]).split("\n") == [
        *alone.split("\n"),
        "",
        "| recipe | a step, ms | samples a second | outside products and attention, % |",
        "|---|---|---|---|",
        "| `configs/quickstart.yaml` | 62.5 | 1,024 | 50 |",
        "| `configs/mixed.yaml` |  |  |  |",
    ]
    assert "1,024 samples/s, 50% outside" in benchmark["line"](recipe) and "- samples/s" in benchmark["line"](failed)
