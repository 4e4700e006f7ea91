"""The command line, from configuration to run folder: what a user types, and what a user gets wrong."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from perceiver.cli import PerceiverCLI, main

ROOT = Path(__file__).parent.parent
SMALL = """
trainer: {max_steps: 4, num_sanity_val_steps: 1, log_every_n_steps: 1, enable_progress_bar: false, enable_model_summary: false}
data: {class_path: perceiver.data.Quickstart, init_args: {batch_size: 7, steps_per_epoch: 2, val_rows: 12, test_rows: 20, num_workers: 0}}
model:
  class_path: perceiver.tasks.Classification
  init_args:
    warmup_steps: 1
    model: {class_path: perceiver.models.PerceiverIO, init_args: {encoder: {class_path: perceiver.encoder.Encoder, init_args: {num_layers: 1}}}}
"""
MODEL = "--model.init_args.model.init_args"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs the quickstart, made small, from the root of the repository into a folder of its own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["perceiver"])
    (tmp_path / "small.yaml").write_text(SMALL)

    def run(command: str, *options: str, folder: str = "run") -> int:
        configs = ["--config", "configs/quickstart.yaml", "--config", str(tmp_path / "small.yaml")]
        return main([command, *configs, "--run_dir", str(tmp_path / folder), *options])

    return run


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused input is answered with."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_fit_leaves_config_logs_results_checkpoints_table_and_report(run, tmp_path):
    assert run("fit") == 0
    folder = tmp_path / "run"
    results = json.loads((folder / "metrics.json").read_text())
    for kind in ("written", "spoken", "sum", "same"):
        for key in ("accuracy", "baseline_mean_pool", "baseline_late_fusion", *(f"accuracy_without_{m}" for m in ("image", "audio", "text"))):
            assert 0 <= results[f"test/{key}/{kind}"] <= 1
        assert sum(results[f"test/mass_{m}/{kind}"] for m in ("image", "audio", "text")) == pytest.approx(1, abs=1e-5)
    assert results["train/seconds"] > 0 and results["train/steps"] == 4
    with open(folder / "metrics.csv") as file:
        logged = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert [int(row["step"]) for row in logged] == [0, 1, 2, 3]
    assert "full model" in (folder / "table.txt").read_text()
    assert "<html" in (folder / "report.html").read_text()
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] in (2, 4)


def test_the_saved_config_trains_again_and_a_test_leaves_it_alone(run, tmp_path, monkeypatch):
    assert run("fit", "--controls", "{}") == 0
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert run("test", "--ckpt_path", str(tmp_path / "run/checkpoints/best.ckpt")) == 0
    assert (tmp_path / "run" / "config.yaml").read_text() == config
    assert main(["fit", "--config", str(tmp_path / "run" / "config.yaml"), "--run_dir", str(tmp_path / "again")]) == 0
    same = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "again")]
    assert {k: v for k, v in same[0].items() if k.startswith("test/accuracy")} == {k: v for k, v in same[1].items() if k.startswith("test/accuracy")}


def test_a_resumed_run_goes_on_in_the_same_folder(run, tmp_path):
    assert run("fit", "--controls", "{}") == 0
    assert run("fit", "--controls", "{}", "--trainer.max_steps", "6", "--ckpt_path", str(tmp_path / "run/checkpoints/last.ckpt")) == 0
    with open(tmp_path / "run" / "metrics.csv") as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]] == [0, 1, 2, 3, 4, 5]
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6


def test_a_second_run_moves_the_first_aside(run, tmp_path):
    assert run("fit", "--controls", "{}") == 0
    first = (tmp_path / "run" / "metrics.csv").read_text()
    assert run("fit", "--controls", "{}", "--seed_everything", "5") == 0
    assert (tmp_path / "run.1" / "metrics.csv").read_text() == first
    assert (tmp_path / "run" / "metrics.csv").read_text() != first


def test_predict_gives_a_class_and_probabilities_for_each_row(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(PerceiverCLI, "after_predict", lambda self: seen.extend(self.trainer.predict_loop.predictions), raising=False)
    assert run("fit", "--controls", "{}") == 0
    assert run("predict", "--ckpt_path", str(tmp_path / "run/checkpoints/best.ckpt")) == 0
    assert seen[0]["class"].shape == (20,) and seen[0]["probabilities"].shape == (20, 21)


def test_another_optimizer_comes_with_its_own_defaults(run, monkeypatch):
    groups = []
    monkeypatch.setattr(PerceiverCLI, "after_fit", lambda self: groups.extend(self.trainer.optimizers[0].param_groups))
    chosen = '{"class_path": "torch.optim.NAdam", "init_args": {"lr": 0.001}}'
    assert run("fit", "--model.init_args.optimizer", chosen) == 0
    assert groups[0]["betas"] == (0.9, 0.999)


def test_what_is_asked_for_is_not_overridden_by_a_checkpoint(run, tmp_path, capsys):
    assert run("fit", "--controls", "{}") == 0
    capsys.readouterr()
    assert run("test", f"{MODEL}.encoder.init_args.num_latents", "5", "--ckpt_path", str(tmp_path / "run/checkpoints/best.ckpt")) == 2
    said = refusal(capsys)
    assert "another model" in said and "(16, 64) in the checkpoint, (5, 64) in the model" in said


@pytest.mark.parametrize("key", ["num_latens", "numlatents"])
def test_a_misspelt_key_is_named(run, capsys, key):
    assert run("fit", f"{MODEL}.encoder.init_args.{key}", "5") == 2
    assert f"model.model.encoder: Option '{key}' is not accepted" in refusal(capsys)


def test_a_missing_key_is_named(run, tmp_path, capsys):
    config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    del config["model"]["init_args"]["num_classes"]
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "broken.yaml"), "--run_dir", str(tmp_path / "run")]) == 2
    assert "required: num_classes" in refusal(capsys)
    assert not (tmp_path / "run").exists()


def test_an_unwritable_run_folder_is_refused_before_anything_is_built(run, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run("fit", folder="file/run") == 2
    assert "cannot be written to" in (said := refusal(capsys)) and "--run_dir" in said


def test_a_missing_dataset_says_where_it_was_looked_for(run, tmp_path, capsys):
    assert run("fit", "--data.init_args.root", str(tmp_path / "nowhere")) == 2
    assert str(tmp_path / "nowhere") in refusal(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([f"{MODEL}.adapters.image.init_args.size", "[10, 8]"], ["(1, 10, 8)", "(1, 8, 8)"]),
        ([f"{MODEL}.adapters.text.init_args.max_length", "5"], ["longer than the table of 5"]),
        ([f"{MODEL}.adapters.audio.init_args.max_seconds", "0.2"], ["1 to 1600"]),
        ([f"{MODEL}.adapters.audio.init_args.sample_rate", "0"], ["sample_rate=0 Hz"]),
        ([f"{MODEL}.head.init_args.out_features", "20"], ["(12, 20)", "num_classes=21"]),
        (["--model.init_args.num_classes", "7", f"{MODEL}.head.init_args.out_features", "7"], ["target", "out of range 0 to 6"]),
        (["--model.init_args.datasets", "[one, two]"], ["dataset", "out of range 0 to 1"]),
        (["--model.init_args.warmup_steps", "4"], ["warmup_steps=4 of 4"]),
        ([f"{MODEL}.decoder.init_args.query_dim", "32"], ["64", "32"]),
        ([f"{MODEL}.encoder.init_args.cross_attend", "[0]"], ["1 steps", "2"]),
        (["--data.init_args.turns", "[written, sung]"], ["sung"]),
    ],
)
def test_what_does_not_fit_is_refused_before_training_in_one_line(run, tmp_path, capsys, options, words):
    assert run("fit", *options) == 2
    said = refusal(capsys)
    for word in words:
        assert word in said
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
