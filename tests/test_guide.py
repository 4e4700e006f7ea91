"""The guide for people's own data does what it says: its scripts, commands, configurations and errors are taken out of the docs, and tried."""

import csv
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import perceiver.data
from perceiver.cli import main
from perceiver.data import AudioColumn, BadSample, ImageColumn, Limits, Manifest, MixedDataModule, Stream, TextColumn
from perceiver.tasks import OBJECTIVES

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs/own_data.md").read_text()
DATASETS = (ROOT / "docs/datasets.md").read_text()
CONFIG = (ROOT / "configs/own_data.yaml").read_text()

Options = list[str]
SMALL = "--trainer.max_steps 4 --trainer.log_every_n_steps 1 --trainer.enable_progress_bar false --model.init_args.warmup_steps 1"
SMALL += " --data.init_args.steps_per_epoch 2 --data.init_args.batch_size 6 --data.init_args.num_workers 0"
MODEL, MINE = "--model.init_args.model.init_args", "--data.init_args.datasets.mine"


def blocks(language: str) -> list[str]:
    """The guide's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def block(language: str, word: str) -> str:
    """The one block of code in a language that has a word."""
    (found,) = (code for code in blocks(language) if word in code)
    return found


FIT, TEST, RESUME = (shlex.split(code)[2:] for code in blocks("bash"))  # without `python train.py`


def write_picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (47, 73, 3), dtype=np.uint8)).save(file)


def write_sound(file: Path, rate: int = 22_050, channels: int = 2) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.random.default_rng(0).uniform(-0.3, 0.3, (rate // 2, channels)), rate)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the guide speaks of: the folder of files, without its table, and those of the further datasets."""
    place = tmp_path_factory.mktemp("files")
    for row in csv.DictReader(block("csv", "label").splitlines()):
        if row["image"]:
            write_picture(place / "my" / row["image"])
        if row["audio"]:
            write_sound(place / "my" / row["audio"])
        if row["text"]:
            (place / "my" / row["id"]).parent.mkdir(parents=True, exist_ok=True)
            (place / "my" / f"{row['id']}.txt").write_text(row["text"] + "\n")
    for split in ("train", "val", "test"):
        for word in ("yes", "no"):
            write_sound(place / "words" / split / word / "1.wav", rate=16_000, channels=1)
    (place / "letters").mkdir()
    (place / "letters/1.txt").write_text("It was the best of times, it was the worst of times. " * 60)
    (place / "signals").mkdir()
    for split in ("train", "val", "test"):
        np.savez(place / "signals" / f"{split}.npz", x=np.random.default_rng(0).normal(size=(5, 4_001)) / 10, y=np.arange(5) % 3)
    (place / "signals.py").write_text(block("python", "# signals.py"))
    shutil.copytree(ROOT / "configs", place / "configs")
    return place


@pytest.fixture(scope="module")
def at_home(files: Path) -> Iterator[Path]:
    """The user's folder, with the table that the guide's script writes; commands are given from there, as `train.py` would see them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(files)
        patch.setattr(sys, "argv", ["perceiver"])
        patch.syspath_prepend(ROOT)
        patch.syspath_prepend(files)
        run(block("python", "csv.DictWriter"))
        yield files
    OBJECTIVES.pop("number", None)
    for module in ("signals", "examples.loudness", "examples"):
        sys.modules.pop(module, None)


@pytest.fixture
def place(at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the user's folder, to change things in."""
    shutil.copytree(at_home, tmp_path / "user", ignore=shutil.ignore_patterns("runs"))
    monkeypatch.chdir(tmp_path / "user")
    return tmp_path / "user"


@pytest.fixture(scope="module")
def trained(at_home: Path) -> tuple[Path, str]:
    """The user's folder after the guide's first command, and what that printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert perceiver_command(FIT) == 0
    return at_home, printed.getvalue()


def run(code: str) -> None:
    """Runs Python of the guide."""
    exec(compile(code, "own_data.md", "exec"), {})


def perceiver_command(arguments: Options, *options: str) -> int:
    """Runs a command of the guide, made small."""
    return main([*arguments, *shlex.split(SMALL), *options])


def results(place: Path) -> dict[str, float]:
    return json.loads((place / "runs/own_data/metrics.json").read_text())


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused input is answered with."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_the_script_writes_the_table_that_is_shown(place):
    assert (place / "my/data.csv").read_text() == block("csv", "label")


def test_the_part_of_the_configuration_that_is_shown_is_in_it():
    assert block("yaml", "perceiver.data.Manifest") in CONFIG and f"python train.py {shlex.join(FIT)}\n" in CONFIG


def test_the_first_command_prints_the_tables_and_leaves_what_is_named(trained):
    place, printed = trained
    assert "Test accuracy" in printed and "Attention mass by modality" in printed
    for modality in ("image", "audio", "text"):
        assert f"test/mass_{modality}/mine" in results(place)
    assert "without image" in printed and "without audio" in printed
    assert "text: nothing can be answered without it" in printed  # all that the one sample with a text has
    for name in ("metrics.json", "metrics.csv", "table.txt", "report.html", "config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (place / "runs/own_data" / name).exists() and name.split("/")[0] in GUIDE
    assert results(place)["train/steps"] == 4 and results(place)["test/accuracy/mine"] in (0, 0.5, 1)  # of two samples


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning's, when it tests what lies below a relative path
def test_the_other_commands_test_and_resume_and_another_mixture_is_refused(trained, monkeypatch, capsys):
    place, _ = trained
    monkeypatch.chdir(place)
    before = results(place)
    assert perceiver_command(TEST, "--trainer.callbacks", "null") == 0
    assert results(place) == pytest.approx(before)
    assert perceiver_command(RESUME, "--trainer.callbacks", "null", f"{MINE}.weight", "2") == 2
    assert as_in_the_guide("resumed with other weights", refusal(capsys))
    assert perceiver_command(RESUME, "--trainer.callbacks", "null", "--trainer.max_steps", "6") == 0
    assert results(place)["train/steps"] == 6


def test_the_further_datasets_augmentation_source_and_task_train_beside_the_first_and_are_told_apart(place):
    first, *more = blocks("yaml")
    augmentation = block("yaml", "augment:")
    datasets = "".join(code for code in more if code != augmentation)
    (place / "mixed.yaml").write_text(CONFIG.replace(first, first + augmentation + datasets))
    assert perceiver_command(["fit", "--config", "mixed.yaml"], "--data.init_args.rows_per_dataset", "1") == 0
    found = results(place)
    names = ("mine", "words", "letters", "signals", "loudness")
    assert {key.removeprefix("test/accuracy/") for key in found if key.startswith("test/accuracy/")} == set(names)
    assert found["test/accuracy"] == pytest.approx(np.mean([found[f"test/accuracy/{name}"] for name in names]), abs=1e-6)
    with open(place / "runs/own_data/metrics.csv", newline="") as file:
        assert {f"val/accuracy/{name}" for name in names} < set(next(csv.reader(file)))


def test_the_look_at_the_data_prints_figures_to_standardise_with_and_names_what_cannot_be_read(place, capsys):
    code = block("python", "pixel_statistics")
    run(code)
    audio, image = capsys.readouterr().out.splitlines()
    mean, std = (float(number) for number in audio.removeprefix("audio: ").split())
    assert -12 < mean < 6 and 0 < std < 6  # logarithms of energies
    numbers = [float(number) for number in re.findall(r"0\.\d+", image)]
    assert np.allclose(numbers[:3], 0.5, atol=0.02)  # of uniform noise
    (place / "my/val/cat/ivy.jpg").write_bytes(b"no picture")
    run(code)
    assert capsys.readouterr().out.startswith("val/cat/ivy (data.csv, line 10): it is no picture")
    (place / "my/train/cat/tom.jpg").write_bytes(b"no picture")
    with pytest.raises(BadSample, match="tom"):
        run(code)


# What is changed in the table, by what the guide says of it.
WRONG_TABLES = {
    "a file of the table is missing": ("train/cat/tom.jpg", "train/cat/tim.jpg"),
    "a comma without quotes": ('"barks, and digs holes"', "barks, and digs holes"),
    "an unknown split": ("dog,val", "dog,valid"),
    "a label that training never sees": ("runs after a ball,dog", "runs after a ball,wolf"),
    "no rows for a split": (",val\n", ",test\n"),
    "no sound in the test": ("test/cat/kim.wav", ""),
    "a long text": ("wags his tail", "w" * 300),
    "a path out of the folder": ("train/cat/tom.jpg", "../tom.jpg"),
}
# The options that are given, or what is changed in the configuration.
WRONG_RUNS: dict[str, Options | dict[str, str]] = {
    "no such table": [f"{MINE}.source.init_args.file", "my/date.csv"],
    "pictures of another size": [f"{MODEL}.adapters.image.init_args.size", "[32, 32]"],
    "sounds that are too long": [f"{MODEL}.adapters.audio.init_args.max_seconds", "0.3"],
    "a misspelt option": {"{size: &size [64, 64],": "{size: &size [64, 64], sizes: 3,"},
    "an option that is needed": {"{size: &size [64, 64], channels: 3}": "{channels: 3}", "*size": "[64, 64]"},
    "a class that is not there": {"perceiver.data.Manifest": "signal_files.Signals"},
    "a batch that cannot be divided": ["--data.init_args.rows_per_dataset", "5"],
    "fewer steps than warm-up": ["--trainer.max_steps", "20", "--model.init_args.warmup_steps", "100"],
}
SAID = dict(re.findall(r"^\| ([^|`]+) \| `(.+)` \|$", GUIDE.split("## What is said")[1], re.MULTILINE))


def as_in_the_guide(wrong: str, told: str) -> bool:
    """Whether what was said is what the guide says, in which `...` stands for anything."""
    return re.search(".*".join(re.escape(part) for part in SAID[wrong].split("...")), told) is not None


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_each_error_of_the_guide_is_tried():
    assert set(SAID) == {*WRONG_TABLES, *WRONG_RUNS, "a broken picture among 6 rows", "resumed with other weights"}


@pytest.mark.parametrize("wrong", WRONG_TABLES)
def test_what_is_wrong_with_a_table_is_said_before_training_as_the_guide_says(place, wrong):
    table = place / "my/data.csv"
    table.write_text(replaced(table.read_text(), dict([WRONG_TABLES[wrong]])))
    columns = {"image": ImageColumn((64, 64)), "audio": AudioColumn(16_000, 5.0), "text": TextColumn(256)}
    data = MixedDataModule({"mine": Stream(Manifest("my/data.csv", columns=columns))})
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        data.setup("fit")
    assert as_in_the_guide(wrong, str(error.value))


@pytest.mark.parametrize("wrong", WRONG_RUNS)
def test_what_is_wrong_with_a_command_or_configuration_is_said_as_the_guide_says(place, capsys, wrong):
    given = WRONG_RUNS[wrong]
    options = given if isinstance(given, list) else []
    if isinstance(given, dict):
        (place / "configs/own_data.yaml").write_text(replaced(CONFIG, given))
    assert perceiver_command(FIT, "--trainer.callbacks", "null", *options) == 2
    assert as_in_the_guide(wrong, refusal(capsys))


def test_a_broken_picture_among_few_rows_stops_the_run_as_the_guide_says(place, capsys):
    picture = place / "my/train/cat/tom.jpg"
    picture.write_bytes(picture.read_bytes()[:700])
    assert perceiver_command(FIT, "--trainer.callbacks", "null") == 2
    assert as_in_the_guide("a broken picture among 6 rows", refusal(capsys))


def test_an_entry_that_no_adapter_reads_is_told_and_another_sample_rate_is_not_noticed(place):
    text_adapter = "          text: {class_path: perceiver.adapters.TextBytes, init_args: {max_length: *bytes}}\n"
    (place / "configs/own_data.yaml").write_text(replaced(CONFIG, {text_adapter: ""}))
    with pytest.warns(UserWarning, match="no adapter reads text: the model has adapters for image, audio"):
        assert perceiver_command(FIT, "--trainer.callbacks", "null", f"{MODEL}.adapters.audio.init_args.sample_rate", "8000") == 0


def test_the_limits_are_those_that_the_guide_names():
    sentence = GUIDE.split("Limits, compared")[1].split("In YAML")[0]
    assert {name: float(value.replace(",", "")) for name, value in re.findall(r"`(\w+)` ([\d,]+\d)", sentence)} == asdict(Limits())


def test_the_table_of_datasets_says_how_many_classes_there_are():
    for line in re.findall(r"^\| `.*data/.*README.md\) \|$", DATASETS, re.MULTILINE):
        names, _, counts, _, _, _ = line.strip("| ").split(" | ")
        for name, count in zip(re.findall(r"`(\w+)`", names), counts.split(", "), strict=True):
            source = getattr(perceiver.data, name)()
            told = source.task["num_classes"] if name not in ("TinyShakespeare", "Quickstart") else {"Quickstart": 21}.get(name)
            assert count == ("-" if told is None else str(told)), name


@pytest.mark.parametrize("name", perceiver.data.__all__)
def test_every_public_name_is_explained(name):
    assert re.search(rf"\b{name}\b", GUIDE + DATASETS)


@pytest.mark.parametrize("page", ["own_data.md", "datasets.md"])
def test_links_lead_somewhere_and_names_of_classes_are_public(page):
    text = (ROOT / "docs" / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
    for name in re.findall(r"perceiver\.data\.(\w+)", text):
        assert name in perceiver.data.__all__, name
