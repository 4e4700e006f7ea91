"""`perceiver explain`: from the folder of a run to the report, and what is refused before anything is asked."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from builders import without_shape_checks

from perceiver import checkpoints
from perceiver.cli import main
from perceiver.explain.figures import FIGURES, draw

ROOT = Path(__file__).parent.parent
SMALL = [
    "--data.init_args.test_rows",
    "60",
    "--data.init_args.val_rows",
    "60",
    "--trainer.max_steps",
    "6",
    "--model.init_args.warmup_steps",
    "1",
    "--data.init_args.steps_per_epoch",
    "3",
]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["perceiver"])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["perceiver"])
        assert main(["fit", "-c", "configs/quickstart.yaml", "-c", "configs/debug.yaml", "--run_dir", str(folder), *SMALL]) == 0
    return folder


@pytest.mark.slow
def test_a_run_is_explained_from_its_folder_and_says_what_it_will_cost(run, capsys):
    with without_shape_checks():  # which take three quarters of the time here
        assert main(["explain", str(run), "--rows", "12", "--samples", "4", "--figures", "--title", "Small"]) == 0
    said = capsys.readouterr().out
    assert "passes over the rows" in said and "May the picture of attention be believed?" in said
    place = run / "explanation"
    assert {"report.html", "report.json", "summary.txt", "figures"} == {file.name for file in place.iterdir()}
    data = json.loads((place / "report.json").read_text())
    assert data["title"] == "Small" and data["rows"] == {"all kinds": 12, "written": 12, "spoken": 12, "sum": 12, "same": 12}
    drawn = {file.name for file in (place / "figures").iterdir()}
    assert drawn == {f"{name}.{kind}" for name in FIGURES if name != "ladder" for kind in ("svg", "pdf")}


@pytest.mark.slow
def test_what_is_too_dear_is_left_out_and_says_so(run, capsys):
    with without_shape_checks():
        assert main(["explain", str(run), "--rows", "12", "--samples", "2", "--budget", "60"]) == 0
    assert "left out, since it takes about" in capsys.readouterr().out
    data = json.loads((run / "explanation" / "report.json").read_text())
    verdicts = {one["key"]: one["verdict"] for one in data["diagnoses"]}
    assert verdicts["faithfulness"] == "not applicable" and verdicts["combination"] != "not applicable"
    assert main(["explain", str(run), "--rows", "12", "--samples", "0", "--budget", "1"]) == 0
    assert main(["explain", str(run), "--budget", "-1"]) == 2


@pytest.mark.slow
def test_a_run_of_a_task_without_classes_is_refused_in_one_line(run, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    best = broken / "checkpoints" / "best.ckpt"
    state = checkpoints.read(best)
    state["state_dict"].pop("model.head.weight")
    checkpoints.save(state, best)
    assert main(["explain", str(broken)]) == 2
    assert "another model" in capsys.readouterr().err
    (best / "weights.safetensors").write_bytes(b"no checkpoint")
    assert main(["explain", str(broken)]) == 2
    assert "best.ckpt/weights.safetensors has 13 bytes" in capsys.readouterr().err


def test_a_folder_that_is_no_run_or_has_no_checkpoint_is_refused_at_once(tmp_path, capsys):
    assert main(["explain", str(tmp_path)]) == 2
    assert "has no config.yaml: give the folder of a run" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("model: {class_path: x}\n")
    assert main(["explain", str(tmp_path)]) == 2
    assert "has no checkpoint in checkpoints/" in capsys.readouterr().err
    assert main(["explain"]) == 2
    assert "perceiver explain" in capsys.readouterr().err


def test_figures_without_matplotlib_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with without_shape_checks(), pytest.raises(ValueError, match=r"perceiver-lightning\[figures\]"):
        draw(None, tmp_path)  # type: ignore[arg-type]


def test_the_help_of_the_command_line_names_the_other_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "`perceiver cost CONFIG`" in (told := " ".join(capsys.readouterr().out.split())) and "`perceiver explain RUN_DIR`" in told
