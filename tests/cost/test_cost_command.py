"""`perceiver cost`, and recipes that are built and not run: what a user types, and what a user gets wrong."""

import json
import sys
from pathlib import Path

import pytest
from lightning.pytorch import LightningDataModule

from perceiver.cli import main
from perceiver.commands import COMMANDS
from perceiver.data import Quickstart
from perceiver.models import PerceiverIO
from perceiver.recipe import build_recipe
from perceiver.tasks import Classification

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = "configs/quickstart.yaml"


@pytest.fixture(autouse=True)
def as_a_user_would(monkeypatch):
    """From the root of the repository, and with nothing else on the command line."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["perceiver"])


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that wrong words are answered with."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and said.err.startswith("error: ")
    return said.err


@pytest.mark.slow
def test_a_configuration_is_told_in_sentences_tables_and_a_file(tmp_path, capsys):
    file = tmp_path / "cost.json"
    assert main(["cost", QUICKSTART, "--json", str(file)]) == 0
    said = capsys.readouterr().out
    for word in ("- PerceiverIO has 334 k parameters", "A transformer of as many layers", "agree.", "Table 1", "Blocks", "Modalities", "stacks.1.2"):
        assert word in said
    report = json.loads(file.read_text())
    assert report["parameters"] == 334_165 and [share["name"] for share in report["modalities"][:3]] == ["image", "audio", "text"]
    assert sum(share["dense"]["forward"] for share in report["modalities"]) == report["dense"]["forward"]
    assert all(one["agrees"] for one in report["agreement"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["cost.json"]


@pytest.mark.slow
def test_a_forward_pass_is_timed_where_that_is_asked_for(tmp_path, capsys):
    file = tmp_path / "cost.json"
    assert main(["cost", QUICKSTART, "--measure", "forward", "--json", str(file)]) == 0
    assert "- A forward pass of 1 row took " in capsys.readouterr().out
    taken = json.loads(file.read_text())["measured"]
    assert taken["milliseconds"] > 0 and taken["rows"] == 1 and taken["device"].startswith("cpu")


def test_what_has_no_weights_is_not_timed(capsys):
    assert "language-perceiver is told without its weights" in refusal(["cost", "deepmind/language-perceiver", "--measure", "forward"], capsys)


def test_the_words_come_from_the_command_line_when_none_are_given(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["perceiver", "cost", "deepmind/language-perceiver-of-nobody"])
    assert main() == 2
    assert "deepmind/language-perceiver-of-nobody cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_a_published_model_is_told_without_its_weights(capsys):
    assert main(["cost", "deepmind/language-perceiver"]) == 0
    assert "201 M parameters" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["optical_flow", "masked_bytes", "mixed"])
def test_recipes_of_all_kinds_of_task_are_told_without_their_data(recipe, capsys):
    assert main(["cost", f"configs/{recipe}.yaml"]) == 0
    assert "agree" in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_is_built_without_a_folder_or_data(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(Quickstart, "split", lambda self, name: opened.append(name))
    monkeypatch.chdir(tmp_path)
    task, data = build_recipe(ROOT / QUICKSTART, ["--model.init_args.learning_rate", "0.25"])
    assert isinstance(task, Classification) and isinstance(task.model, PerceiverIO) and task.learning_rate == 0.25
    assert isinstance(data, Quickstart) and isinstance(data, LightningDataModule)
    assert not opened and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_config_of_a_run_folder_is_a_recipe(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", QUICKSTART, "--print_config"])
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    assert "ckpt_path" in (tmp_path / "config.yaml").read_text()
    task, _ = build_recipe(tmp_path / "config.yaml")
    assert sum(p.numel() for p in task.model.parameters()) == 334_165


def test_what_is_no_recipe_is_named_in_one_line(tmp_path, capsys):
    assert "nowhere.yaml cannot be read (No such file or directory)" in refusal(["cost", "nowhere.yaml"], capsys)
    bad = tmp_path / "bad.yaml"
    bad.write_text("model:\n  a: 3\n b: [\n")
    assert f"{bad} is no YAML" in (said := refusal(["cost", str(bad)], capsys)) and "line 3" in said
    bad.write_bytes(b"\xff\xfe\x00")
    assert f"{bad} is no YAML" in refusal(["cost", str(bad)], capsys)
    assert "configs/debug.yaml describes no model" in refusal(["cost", "configs/debug.yaml"], capsys)
    bad.write_text("just words\n")
    assert f"{bad} describes no model" in refusal(["cost", str(bad)], capsys)
    bad.write_text((ROOT / QUICKSTART).read_text().replace("num_latents", "num_latens"))
    assert f"{bad}: " in (said := refusal(["cost", str(bad)], capsys)) and "num_latens" in said


def test_wrong_words_are_answered_in_one_line(tmp_path, capsys):
    assert "required: config" in refusal(["cost"], capsys)
    assert "unrecognized arguments: more" in refusal(["cost", QUICKSTART, "more"], capsys)
    nowhere = tmp_path / "no" / "cost.json"
    assert f"--json {nowhere}: there is no folder" in refusal(["cost", QUICKSTART, "--json", str(nowhere)], capsys)


def test_each_command_is_one_entry_and_says_what_it_is_for(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert f"usage: perceiver {name}" in capsys.readouterr().out
