"""Recipes: each is complete, says its command, and runs when `configs/debug.yaml` shrinks it."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from builders import benchmark_file
from PIL import Image

import perceiver
from perceiver import checkpoints
from perceiver.cli import main
from perceiver.data.source import PLACES

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if path.stem not in ("debug", "own_data"))
NEEDS = {
    "mnist": ["mnist"],
    "spoken_digits": ["fsdd"],
    "banking77": ["banking77"],
    "digit_sums": ["mnist", "fsdd"],
    "mixed": ["mnist", "fsdd", "banking77"],
    "quickstart": [],
    "ladder": [],
    "starved": [],
    "autoencode_video": ["video"],
    "optical_flow": ["video"],
    "masked_bytes": ["tinyshakespeare"],
}
FIGURES = {  # where it is no accuracy of a dataset
    "autoencode_video": ["test/psnr/image", "test/psnr/audio"],
    "optical_flow": ["test/end_point_error"],
    "masked_bytes": ["test/accuracy"],
}


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["perceiver"])


def there(dataset: str) -> bool:
    """Whether a dataset, or an archive of it, is in one of the places."""
    return any((ROOT / place).is_dir() and any(not f.name.endswith(".md") for f in (ROOT / place).glob(f"{dataset}*/*")) for place in PLACES) or any(
        next((ROOT / place).glob(f"{dataset}.tar*"), None) for place in PLACES
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_its_command_and_writes_to_a_folder_of_its_own_name(recipe):
    text = (ROOT / "configs" / f"{recipe}.yaml").read_text()
    assert f"python train.py fit --config configs/{recipe}.yaml" in text
    assert yaml.safe_load(text)["run_dir"] == f"runs/{recipe}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_complete_and_so_it_is_before_the_debug_recipe(recipe, capsys):
    for more in ([], ["-c", "configs/debug.yaml"]):
        with pytest.raises(SystemExit) as stop:
            main(["fit", "-c", f"configs/{recipe}.yaml", *more, "--print_config"])
        assert stop.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out.split("seed_everything: ")[-1].split("\n", 1)[1])["trainer"]["max_steps"] == 40


@pytest.mark.slow
@pytest.mark.parametrize("recipe", NEEDS)
def test_a_recipe_shrunk_to_forty_steps_logs_each_and_tests_each_dataset(recipe, tmp_path):
    missing = [name for name in NEEDS[recipe] if not there(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} in one of {', '.join(map(str, PLACES))}")
    folder = tmp_path / "run"
    assert main(["fit", "-c", f"configs/{recipe}.yaml", "-c", "configs/debug.yaml", "--run_dir", str(folder)]) == 0
    with open(folder / "metrics.csv", newline="") as file:
        assert [int(line["step"]) for line in csv.DictReader(file) if line["train/loss"]] == list(range(40))
    assert checkpoints.read(folder / "checkpoints/last.ckpt")["global_step"] == 40
    results = json.loads((folder / "metrics.json").read_text())
    config = yaml.safe_load((ROOT / "configs" / f"{recipe}.yaml").read_text())
    if recipe in FIGURES:
        assert all(results[figure] > 0 for figure in FIGURES[recipe])
        return
    for name in config["data"]["init_args"].get("datasets", ()):
        assert 0 <= results[f"test/accuracy/{name}"] <= 1


@pytest.mark.slow
def test_the_recipe_for_published_weights_learns_classes_of_ones_own(tmp_path):
    """With the architecture in small, and pictures of one colour a class."""
    pytest.importorskip("transformers")
    from tests.pretrained.test_published import reference

    reference("fourier").save_pretrained(tmp_path / "published")
    for number in range(3):
        (tmp_path / f"pictures/{number}").mkdir(parents=True)
        for value in range(20):
            Image.new("RGB", (17, 13), (80 * number + value, value, 0)).save(tmp_path / f"pictures/{number}/{value}.png")
    source = {"class_path": "perceiver.data.ImageFolder", "init_args": {"root": str(tmp_path / "pictures"), "size": [16, 16]}}
    changes = {"num_classes": 3, "encoder.run_block": {"name": "perceiver.blocks.recompute"}}
    model = {"class_path": "perceiver.tasks.pretrained_model", "init_args": {"source": str(tmp_path / "published"), "changes": changes}}
    small = {
        "run_dir": str(tmp_path / "run"),
        "trainer": {"precision": "32-true", "accelerator": "cpu"},
        "data": {"init_args": {"datasets": {"pictures": {"source": source}}}},
        "model": {"init_args": {"num_classes": 3, "model": model}},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    assert main(["fit", *(f"--config={file}" for file in ("configs/fine_tune_pictures.yaml", "configs/debug.yaml", tmp_path / "small.yaml"))]) == 0
    assert 0 <= json.loads((tmp_path / "run/metrics.json").read_text())["test/accuracy/pictures"] <= 1
    trained = perceiver.from_pretrained(tmp_path / "run/checkpoints/best.ckpt")
    assert trained.arguments["num_classes"] == 3
    given = perceiver.from_pretrained(tmp_path / "published")
    stacks = [(name, weight) for name, weight in trained.named_parameters() if ".stacks." in name]
    assert stacks and all(torch.equal(weight, given.get_parameter(name)) for name, weight in stacks)  # frozen until step 500


def test_the_readmes_table_is_made_of_what_was_recorded(monkeypatch):
    names = benchmark_file("results", monkeypatch)
    text = (ROOT / "README.md").read_text()
    assert names["readme"](text) == text


@pytest.mark.parametrize("recipe", [file.stem for file in (ROOT / "benchmarks/results/recipes").glob("*.json") if file.stem in NEEDS])
def test_a_recipe_says_how_long_it_takes_and_what_to_expect(recipe):
    header = (ROOT / "configs" / f"{recipe}.yaml").read_text().split("run_dir:")[0]
    recorded = json.loads((ROOT / f"benchmarks/results/recipes/{recipe}.json").read_text())["metrics"]
    assert f"# time:     {recorded['train/seconds'] / 60:.0f} min" in header
    found = {key.removeprefix("test/accuracy/"): f"{100 * value:.1f} %" for key, value in recorded.items() if key.startswith("test/accuracy/")}
    expected = [found[recipe]] if recipe in found else [f"{name} {share}" for name, share in found.items()]
    assert f"# expected: {', '.join(expected)}" in header
