"""Fuzzing of recipes: a configuration is built, or refused by an error that names its file, whatever stands in it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, LightningModule

from perceiver.recipe import build_recipe
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.mutations import altered, miswritten, odd_values, put

ROOT = Path(__file__).parents[2]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("tests/toy_mixture.yaml", "configs/quickstart.yaml")}
TOY, QUICKSTART = (yaml.safe_load(text) for text in TEXTS.values())


def smaller() -> dict[str, Any]:
    """The toy mixture with one dataset and one modality: each level of a configuration takes twice the time of the one above."""
    found = copy.deepcopy(TOY)
    del found["trainer"]
    del found["model"]["init_args"]["model"]["init_args"]["modality_dropout"]
    for place in (found["data"]["init_args"]["datasets"], found["model"]["init_args"]["model"]["init_args"]["adapters"]):
        for name in list(place)[1:]:
            del place[name]
    return found


TREES = {"small": smaller(), "toy": TOY, "quickstart": {key: value for key, value in QUICKSTART.items() if key not in ("controls", "trainer")}}
odd = st.one_of(odd_values, st.sampled_from(["torch.nn.Linear", "perceiver.encoder.Encoder", "os.system", "toy_datasets.ToyTexts", "nothing.at.all"]))


@pytest.fixture(autouse=True)
def same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the environment as it is, into which a recipe writes its seed."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


def check(file: Path) -> None:
    """Builds a recipe, or is told what is wrong with its file."""
    try:
        task, data = build_recipe(file)
    except ValueError as error:
        check_told(error, str(file))
        return
    assert isinstance(task, LightningModule) and isinstance(data, LightningDataModule)


@fuzz(70, seconds=60, tree=st.sampled_from(["small", "small", "small", "toy", "quickstart"]).flatmap(lambda name: altered(TREES[name], odd)))
def test_a_recipe_that_says_something_else_is_built_or_refused_by_its_name(tree, place):
    check(put(place / "recipe.yaml", yaml.safe_dump(tree).encode()))


@fuzz(60, seconds=60, text=st.sampled_from([*TEXTS, "tests/toy_mixture.yaml"]).flatmap(lambda name: miswritten(TEXTS[name])))
def test_a_recipe_with_slips_is_built_or_refused_by_its_name(text, place):
    check(put(place / "slips.yaml", text.encode()))


@fuzz(200, tree=st.one_of(odd_values, altered({"model": {"class_path": "perceiver.tasks.Nothing"}}, odd_values)))
def test_what_is_no_recipe_at_all_is_refused_by_its_name_at_once(tree, place):
    file = put(place / "none.yaml", yaml.safe_dump(tree).encode())
    with pytest.raises(ValueError) as caught:
        build_recipe(file)
    check_told(caught.value, str(file))
