"""The benchmark's steps of recipes: what is timed, what counts as matrix products and attention, and what is said where there is no data."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).parent.parent


@pytest.fixture
def recipes(monkeypatch) -> ModuleType:
    """`benchmarks/recipes.py`, with few steps."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    found = importlib.import_module("recipes")
    monkeypatch.setattr(found, "STEPS", 3)
    monkeypatch.setattr(found, "WARM_UP", 2)
    return found


def test_products_and_attention_count_once_and_nothing_else_does(recipes):
    x = torch.randn(1, 2, 64, 16, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        (F.scaled_dot_product_attention(x, x, x) @ torch.randn(16, 16)).exp().sum().backward()
    events = profiler.events()
    names = {event.name for event in events if recipes.counts(event)}
    assert any("attention" in name and "backward" in name for name in names) and names & {"aten::mm", "aten::bmm"}
    assert not names & {"aten::matmul", "aten::exp", "aten::sum", "aten::linear"}
    by_itself = sum(event.self_cpu_time_total for event in events)
    assert 0 < recipes.inside(events) < by_itself / 1e6


def test_without_its_data_a_recipe_says_how_to_get_it(recipes, monkeypatch, tmp_path):
    config = ROOT / "configs/quickstart.yaml"
    monkeypatch.setitem(recipes.RECIPES, "quickstart", str(config))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        recipes.trained("quickstart", 1)
    assert "the quickstart dataset is not whole" in str(stop.value)
    assert f"python train.py fit -c {config} -c configs/debug.yaml" in str(stop.value) and "\n" not in str(stop.value)


@pytest.mark.slow
def test_steps_of_a_recipe_are_timed_with_whole_batches_and_its_own_settings(recipes, monkeypatch):
    watches = []
    monkeypatch.setattr(recipes, "Stopwatch", lambda timed, made=recipes.Stopwatch: watches.append(made(timed)) or watches[-1])
    cost = recipes.trained("quickstart", 2)
    (watch,) = watches
    assert len(watch.laps) == 6 and watch.rows == 6 * 64 and watch.seen == 2 + 6 + 3
    assert cost.samples_per_s == pytest.approx(64 * 6 / sum(watch.laps)) and 0 < cost.outside < 1
