"""The benchmark of remedies: each is a switch that the recipe takes, runs once, and stands in the page as it was recorded."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import benchmark_file

from perceiver.cli import main

ROOT = Path(__file__).parent.parent
PARTS = {
    "modality_dropout": ("model", "init_args", "model", "init_args", "modality_dropout"),
    "balance": ("trainer", "callbacks"),
    "registers": ("model", "init_args", "model", "init_args", "encoder", "init_args", "registers"),
    "qk_norm": ("model", "init_args", "model", "init_args", "encoder", "init_args", "self_block", "init_args", "attention"),
    "standardised": ("model", "init_args", "model", "init_args", "project"),
}


@pytest.fixture
def remedies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["perceiver"])
    return benchmark_file("remedies", monkeypatch)


def at(config: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        config = config[key]
    return config


@pytest.mark.slow
@pytest.mark.parametrize("remedy", PARTS)
def test_a_remedy_changes_its_own_part_of_the_recipe_and_no_other(remedies: dict[str, Any], remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"none", *PARTS} == set(remedies["REMEDIES"]) and not remedies["REMEDIES"]["none"]
    found = []
    for options in ([], remedies["REMEDIES"][remedy]):
        with pytest.raises(SystemExit):
            main(["fit", "--config", remedies["RECIPE"], *options, "--print_config"])
        found.append(yaml.safe_load(capsys.readouterr().out))
    plain, other = found
    for name, keys in PARTS.items():
        assert (at(plain, keys) != at(other, keys)) == (name == remedy), name


def test_a_run_that_has_test_accuracies_is_not_run_again(remedies: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    known = remedies["train"].__globals__
    monkeypatch.setitem(known, "RUNS", tmp_path / "remedies")
    monkeypatch.setattr(known["subprocess"], "run", lambda command, **_: started.append(command) or known["subprocess"].CompletedProcess(command, 0))
    folder = tmp_path / "remedies/balance_1"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"train/seconds": 3.0}))  # killed before its test
    remedies["train"](["none", "balance"], [1], None)
    assert len(started) == 2 and str(folder) in started[1] and "--seed_everything" in started[1]
    (folder / "metrics.json").write_text(json.dumps({"train/seconds": 3.0, "test/accuracy/written": 0.5, "test/accuracy/spoken": 0.75}))
    remedies["train"](["balance"], [1], None)
    assert len(started) == 2
    assert remedies["collected"](None) == {}  # two seeds are missing


def test_the_table_has_the_mean_and_each_seed(remedies: dict[str, Any]) -> None:
    one = {"test": {"written": [0.2, 0.3, 0.4], "spoken": [0.9, 0.9, 0.96], "sum": [0.0, 0.0, 0.0]}, "seconds": [100.0, 101.0, 102.0]}
    text = remedies["table"]({"made": "two cores, 2026-11-26", "remedies": {"balance": one}})
    assert "on two cores, 2026-11-26;" in text
    assert text.endswith("| `balance` | 30.0 (20.0, 30.0, 40.0) | 92.0 (90.0, 90.0, 96.0) | 101 |")


def test_the_page_shows_what_was_recorded(remedies: dict[str, Any]) -> None:
    page = (ROOT / remedies["PAGE"]).read_text()
    if (ROOT / remedies["RECORDED"]).exists():
        assert remedies["page"](page) == page
    else:
        assert "| `balance` |" not in page
