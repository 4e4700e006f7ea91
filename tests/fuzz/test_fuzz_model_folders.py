"""Fuzzing of models in folders: the weights that lie there in a model of their shapes, or an error that names the folder; never an endless size."""

import hashlib
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load

import perceiver
from perceiver.model_folder import CONFIG, WEIGHTS
from tests.builders import randomise, small_perceiver
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.headers import changed_tensors
from tests.fuzz.mutations import altered, mutated, odd_values, put

TOKENS = (b'"class"', b'"name"', b"{", b"[" * 3_000, b"NaN", b"1e999", b"-", b"\\ud800", b"\0", b"\xff", b"null", b'"args": {}, ', b"true")
NAMES = (
    "torch.nn.Linear",
    "torch.nn.Sequential",
    "perceiver.models.perceiver.Perceiver",
    "perceiver.encoder.Encoder",
    "os.system",
    "perceiver.adapters",
)
SIZES = (10**4, 10**9, 2**63, 10**30)  # that no weights here have
ROOM = 4 * 2**30  # bytes of memory beside what the process has: more is not to be asked for, or to be refused


def files_of_a_model() -> dict[str, bytes]:
    """The files of a small model by name."""
    torch.manual_seed(7)
    model = small_perceiver()
    randomise(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {name: (Path(folder) / name).read_bytes() for name in (CONFIG, WEIGHTS)}


WHOLE = files_of_a_model()
SAID = json.loads(WHOLE[CONFIG])
KEPT = load(WHOLE[WEIGHTS])


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    """Keeps what a description asks for from taking the memory of the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def loaded(place: Path, **changed: bytes) -> torch.nn.Module | None:
    """The model of a folder some of whose files are others; None when it is refused by its name."""
    folder = place / "fuzzed_model"
    folder.mkdir(exist_ok=True)
    for name, content in {**WHOLE, **changed}.items():
        put(folder / name, content)
    try:
        return perceiver.from_pretrained(folder)
    except ValueError as error:
        check_told(error, folder.name)
        return None


def check_weights(model: torch.nn.Module) -> None:
    """A model holds the weights that were saved."""
    found = model.state_dict()
    assert found.keys() == KEPT.keys() and all(torch.equal(found[name], weight) for name, weight in KEPT.items())


@fuzz(250, weights=mutated(WHOLE[WEIGHTS]))
def test_weights_that_were_changed_are_refused(weights, place):
    assert weights == WHOLE[WEIGHTS] or loaded(place, **{WEIGHTS: weights}) is None


@fuzz(400, weights=changed_tensors(WHOLE[WEIGHTS]))
def test_weights_that_were_changed_and_summed_again_are_refused_or_weights_of_the_model(weights, place):
    """So would somebody do who means harm."""
    said = SAID | {"sha256": hashlib.sha256(weights).hexdigest()}
    if (model := loaded(place, **{WEIGHTS: weights, CONFIG: json.dumps(said).encode()})) is None:
        return
    assert {name: weight.shape for name, weight in model.state_dict().items()} == {name: weight.shape for name, weight in KEPT.items()}
    assert all(weight.is_floating_point() and weight.isfinite().all() for weight in model.state_dict().values())


@fuzz(300, config=mutated(WHOLE[CONFIG], tokens=TOKENS))
def test_a_model_whose_config_was_changed_is_refused_or_has_the_weights_that_were_saved(config, place):
    if (model := loaded(place, **{CONFIG: config})) is not None:
        check_weights(model)


@fuzz(400, said=altered(SAID, st.one_of(odd_values, st.sampled_from(NAMES + SIZES)), names=("class", "args", "name")))
def test_a_model_whose_config_says_something_else_is_refused_or_has_the_weights_that_were_saved(said, place):
    if (model := loaded(place, **{CONFIG: json.dumps(said).encode()})) is not None:
        check_weights(model)
