"""The command line, from configuration to run folder: what a user types, and what a user gets wrong."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch import nn

from perceiver import checkpoints
from perceiver.cli import PerceiverCLI, main
from perceiver.lightning_cli import best_weights, with_whole_checkpoints
from perceiver.model_folder import save_model
from perceiver.resume import WholeCheckpoints
from perceiver.tasks import Classification

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


def perceiver_command(command: str, folder: Path, *options: str) -> int:
    """Runs the quickstart, made small, into a folder."""
    small = folder.parent / "small.yaml"
    small.write_text(SMALL)
    return main([command, "--config", "configs/quickstart.yaml", "--config", str(small), "--run_dir", str(folder), *options])


@pytest.fixture(scope="module", autouse=True)
def as_a_user_would():
    """From the root of the repository, and with nothing else on the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["perceiver"])
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with controls and report."""
    folder = tmp_path_factory.mktemp("fitted") / "run"
    assert perceiver_command("fit", folder) == 0
    return folder


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused input is answered with."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def losses(folder: Path) -> dict[int, str]:
    """The training loss by step, as logged."""
    with open(folder / "metrics.csv") as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}


def test_a_fit_leaves_config_logs_results_checkpoints_table_and_report(fitted):
    results = json.loads((fitted / "metrics.json").read_text())
    for kind in ("written", "spoken", "sum", "same"):
        for key in ("accuracy", "baseline_mean_pool", "baseline_late_fusion", *(f"accuracy_without_{m}" for m in ("image", "audio", "text"))):
            assert 0 <= results[f"test/{key}/{kind}"] <= 1
        assert sum(results[f"test/mass_{m}/{kind}"] for m in ("image", "audio", "text")) == pytest.approx(1, abs=1e-5)
    assert results["train/seconds"] > 0 and results["train/steps"] == 4
    # What the ladder of a report needs to know of the controls.
    assert results["attends/mean_pool"] == 0 and results["attends/late_fusion"] == 1
    assert results["parameters/model"] > 0 and results["parameters/mean_pool"] > 0
    assert all(results[f"test/rows/{kind}"] > 0 for kind in ("written", "spoken", "sum", "same"))
    assert list(losses(fitted)) == [0, 1, 2, 3]
    table = (fitted / "table.txt").read_text()
    assert "full model" in table and "control: mean_pool" in table and "control: late_fusion" in table
    assert "<html" in (fitted / "report.html").read_text()
    for name in ("best", "last"):
        assert checkpoints.read(fitted / "checkpoints" / f"{name}.ckpt")["global_step"] in (2, 4)


@pytest.mark.slow
def test_a_test_leaves_the_config_alone_and_the_config_trains_the_same_again(fitted, tmp_path):
    config = (fitted / "config.yaml").read_text()
    assert perceiver_command("test", fitted, "--ckpt_path", str(fitted / "checkpoints/best.ckpt")) == 0
    assert (fitted / "config.yaml").read_text() == config
    assert main(["fit", "--config", str(fitted / "config.yaml"), "--run_dir", str(tmp_path / "again"), "--controls", "{}"]) == 0
    assert losses(tmp_path / "again") == losses(fitted)


def test_a_checkpoint_gives_the_whole_task_back_without_a_configuration(fitted):
    task = Classification.load_from_checkpoint(fitted / "checkpoints/best.ckpt", weights_only=True)
    saved = checkpoints.read(fitted / "checkpoints/best.ckpt")["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in task.state_dict().items())
    assert task.model.encoder.cross_attend == (0, 1)


def test_a_resumed_run_goes_on_in_the_same_folder(fitted, tmp_path):
    shutil.copytree(fitted, tmp_path / "run")
    last = str(tmp_path / "run/checkpoints/last.ckpt")
    assert perceiver_command("fit", tmp_path / "run", "--controls", "{}", "--trainer.max_steps", "6", "--ckpt_path", last) == 0
    resumed = losses(tmp_path / "run")
    assert list(resumed) == [0, 1, 2, 3, 4, 5] and {step: resumed[step] for step in range(4)} == losses(fitted)
    assert checkpoints.read(Path(last))["global_step"] == 6


def test_a_second_run_moves_the_first_aside_and_another_seed_gives_other_losses(fitted, tmp_path):
    shutil.copytree(fitted, tmp_path / "run")
    assert perceiver_command("fit", tmp_path / "run", "--controls", "{}", "--seed_everything", "5") == 0
    assert losses(tmp_path / "run.1") == losses(fitted)
    assert losses(tmp_path / "run") != losses(fitted)


STRATEGY = {"class_path": "lightning.pytorch.strategies.SingleDeviceStrategy", "init_args": {"device": "cpu"}}  # each trainer needs its own


@pytest.mark.slow
def test_a_control_is_trained_with_all_that_the_trainer_is_told_but_callbacks_and_loggers(tmp_path, monkeypatch):
    made: list[Trainer] = []

    def noted(trainer: Trainer) -> str | None:
        made.append(trainer)
        return best_weights(trainer)

    monkeypatch.setattr("perceiver.lightning_cli.best_weights", noted)
    told = {"accumulate_grad_batches": 2, "limit_val_batches": 1, "check_val_every_n_epoch": 3, "gradient_clip_algorithm": "value"}
    (tmp_path / "told.yaml").write_text(yaml.safe_dump({"trainer": told | {"precision": "bf16-mixed", "strategy": STRATEGY}}))
    assert perceiver_command("fit", tmp_path / "run", "--config", str(tmp_path / "told.yaml")) == 0
    full, *controls = made
    assert len(controls) == 2 and len({id(trainer.strategy) for trainer in made}) == 3
    for trainer in controls:
        assert (trainer.accumulate_grad_batches, trainer.precision, trainer.check_val_every_n_epoch) == (2, "bf16-mixed", 3)
        assert (trainer.limit_val_batches, trainer.gradient_clip_algorithm, trainer.gradient_clip_val) == (1, "value", full.gradient_clip_val)
    # Two batches make a step: of eight batches the four steps of each model are made.
    progress = [checkpoints.read(file)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] for file in last_checkpoints(tmp_path)]
    assert len(progress) == 3 and set(progress) == {8}


def last_checkpoints(folder: Path) -> list[Path]:
    """What each model below a folder was left with."""
    return sorted(folder.rglob("last.ckpt"))


def test_predict_gives_a_class_and_probabilities_for_each_row(fitted, monkeypatch):
    seen = []
    monkeypatch.setattr(PerceiverCLI, "after_predict", lambda self: seen.extend(self.trainer.predict_loop.predictions), raising=False)
    assert perceiver_command("predict", fitted, "--ckpt_path", str(fitted / "checkpoints/best.ckpt")) == 0
    assert seen[0]["class"].shape == (20,) and seen[0]["probabilities"].shape == (20, 21)


def test_another_optimizer_comes_with_its_own_defaults(tmp_path, monkeypatch):
    groups = []
    monkeypatch.setattr(PerceiverCLI, "after_fit", lambda self: groups.extend(self.trainer.optimizers[0].param_groups))
    chosen = '{"class_path": "torch.optim.NAdam", "init_args": {"lr": 0.001}}'
    assert perceiver_command("fit", tmp_path / "run", "--model.init_args.optimizer", chosen) == 0
    assert groups[0]["betas"] == (0.9, 0.999)


def test_bf16_recomputation_and_modality_dropout_train_together(tmp_path, monkeypatch):
    monkeypatch.setattr(PerceiverCLI, "after_fit", lambda self: None)
    options = ["--trainer.precision", "bf16-mixed", f"{MODEL}.encoder.init_args.run_block", "perceiver.recompute"]
    options += [f"{MODEL}.modality_dropout", "perceiver.ModalityDropout", f"{MODEL}.modality_dropout.init_args.probability", "0.3"]
    assert perceiver_command("fit", tmp_path / "run", *options) == 0
    assert all(float(loss) < 10 for loss in losses(tmp_path / "run").values())


def test_what_is_asked_for_is_not_overridden_by_a_checkpoint(fitted, capsys):
    options = [f"{MODEL}.encoder.init_args.num_latents", "5", "--ckpt_path", str(fitted / "checkpoints/best.ckpt")]
    assert perceiver_command("test", fitted, *options) == 2
    said = refusal(capsys)
    assert "another model" in said and "(8, 64) in the checkpoint, (5, 64) in the model" in said


def test_a_misspelt_key_is_named_with_its_place(tmp_path, capsys):
    assert perceiver_command("fit", tmp_path / "run", f"{MODEL}.encoder.init_args.num_latens", "5") == 2
    assert "model.model.encoder: Option 'num_latens' is not accepted" in refusal(capsys)
    assert not (tmp_path / "run").exists()


def test_a_missing_key_is_named(tmp_path, capsys):
    config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    del config["model"]["init_args"]["num_classes"]
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "broken.yaml"), "--run_dir", str(tmp_path / "run")]) == 2
    assert "required: num_classes" in refusal(capsys)
    assert not (tmp_path / "run").exists()


def test_an_unwritable_run_folder_is_refused_before_anything_is_built(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["fit", "--config", "configs/quickstart.yaml", "--run_dir", str(tmp_path / "file/run")]) == 2
    assert "cannot be written to" in (said := refusal(capsys)) and "--run_dir" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.init_args.root", "nowhere"], ["/nowhere", "--data.init_args.root"]),
        ([f"{MODEL}.adapters.image.init_args.size", "[10, 8]"], ["(1, 10, 8)", "(1, 8, 8)"]),
        ([f"{MODEL}.adapters.text.init_args.max_length", "5"], ["longer than the table of 5"]),
        ([f"{MODEL}.adapters.audio.init_args.max_seconds", "0.2"], ["1 to 1600"]),
        ([f"{MODEL}.adapters.audio.init_args.sample_rate", "0"], ["sample_rate=0 Hz"]),
        ([f"{MODEL}.head.init_args.out_features", "20"], ["(12, 20)", "num_classes=21"]),
        (["--model.init_args.num_classes", "7", f"{MODEL}.head.init_args.out_features", "7"], ["target", "out of range 0 to 6"]),
    ],
)
def test_what_does_not_fit_is_refused_before_training_in_one_line(tmp_path, capsys, options, words):
    assert perceiver_command("fit", tmp_path / "run", *options) == 2
    said = refusal(capsys)
    for word in words:
        assert word in said
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_an_error_in_yaml_is_told_with_its_reason_and_line(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("trainer:\n  max_steps: 3\n bad: [\n")
    assert main(["fit", "--config", str(tmp_path / "bad.yaml")]) == 2
    told = refusal(capsys)
    assert "did not find expected key" in told and "line 3" in told and "unicode string" not in told


def test_weights_that_do_not_fit_are_told_with_their_table_before_the_first_step(tmp_path, capsys):
    save_model(nn.Linear(3, 2), tmp_path / "other")
    options = "--model.init_args.init_from.class_path perceiver.pretrained.InitFrom --model.init_args.init_from.init_args.source"
    assert perceiver_command("fit", tmp_path / "run", *options.split(), str(tmp_path / "other")) == 2
    told = capsys.readouterr().err
    assert "error: " in told and "cannot be loaded from" in told and "MISSING in the source" in told and "only in the source" in told
    assert not (tmp_path / "run/checkpoints/last.ckpt").exists()


def test_a_plugin_of_another_kind_leaves_checkpoints_whole_and_one_for_checkpoints_takes_their_place():
    slurm, mine = SLURMEnvironment(), TorchCheckpointIO()
    assert with_whole_checkpoints([mine]) == [mine] == with_whole_checkpoints(mine)
    for plugins, given in ((None, []), ([], []), ([slurm], [slurm]), (slurm, [slurm])):
        *others, last = with_whole_checkpoints(plugins)
        assert others == given and isinstance(last, WholeCheckpoints)
