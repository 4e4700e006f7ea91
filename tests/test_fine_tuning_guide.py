"""The page on fine-tuning does what it says: its code runs from top to bottom, on small models under the published names."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml
from builders import benchmark_file

import perceiver
from perceiver.pretrained import InitFrom, rebuild
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics
from perceiver.tasks import FineTuning, pretrained_model
from tests.pretrained.test_published import reference

PAGE = (Path(__file__).parent.parent / "docs/fine_tuning.md").read_text()
README = (Path(__file__).parent.parent / "README.md").read_text()
NAMES = {"deepmind/vision-perceiver-fourier": "fourier"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Small models of transformers, under the names of the published ones."""

    def download(name, file, **options):
        folder = tmp_path / name
        if not folder.exists():
            reference(NAMES[name]).save_pretrained(folder)
        return str(folder / file)

    monkeypatch.setattr(perceiver.hub, "hf_hub_download", download)
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore:Could not find a config file")  # peft's, of models that are not on the hub
def test_the_code_runs(hub):
    said: list[str] = []
    known = {"print": lambda *values: said.append(" ".join(map(str, values)))}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, known)  # the page's own code
    assert len(said) == 1 and "latents" in said[0]
    assert known["scores"].shape == (1, 10)  # type: ignore[attr-defined]
    assert Path("my-lora/adapter_model.safetensors").is_file()
    assert torch.isfinite(known["model"](known["heard"])).all()  # type: ignore[operator]


def test_the_code_of_the_readme_runs(hub):
    known: dict = {}
    exec(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1], known)  # the project's own code
    assert known["model"].head.out_features == 10 and "sound" in known["model"].adapters


def test_the_table_is_the_one_that_is_shown():
    config = PUBLISHED["deepmind/vision-perceiver-fourier"]
    model = architecture(config.architecture).build(config, semantics("hf"))
    (changes,) = re.findall(r"rebuild\(model, (\{.*?\})\)", PAGE)
    _, table = rebuild(model, ast.literal_eval(changes))
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert str(table) == shown.rstrip("\n")


def test_the_configurations_name_arguments_that_there_are(hub):
    first, second = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    blocks = yaml.safe_load(first)
    for key, kind in (("init_from", InitFrom), ("fine_tuning", FineTuning)):
        assert blocks[key]["class_path"].rsplit(".", 1)[1] == kind.__name__
        kind(**blocks[key]["init_args"])
    model = yaml.safe_load(second)["model"]
    assert model["class_path"] == "perceiver.tasks.pretrained_model"
    assert pretrained_model(**model["init_args"]).head.out_features == 10


def test_the_tables_of_results_are_made_of_what_was_recorded(monkeypatch):
    for benchmark in ("fine_tuning", "published_models"):
        assert benchmark_file(benchmark, monkeypatch)["page"](PAGE) == PAGE
