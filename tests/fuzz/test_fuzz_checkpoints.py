"""Fuzzing of checkpoints on disk: what was written is what is read, or the checkpoint is refused as damaged, whatever its sums say."""

import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from perceiver import checkpoints
from perceiver.checkpoints.folder import STATE, TENSORS, WEIGHTS
from perceiver.checkpoints.manifest import MANIFEST, seal, sum_of
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.headers import changed_tensors
from tests.fuzz.mutations import altered, mutated, odd_values, put

FILES = (MANIFEST, STATE, TENSORS, WEIGHTS)
WEIGHT = torch.arange(35, dtype=torch.float32).view(5, 7)
CONTENT: dict[str, Any] = {
    "state_dict": {"model.weight": WEIGHT, "model.bias": WEIGHT[0] * 2},
    "global_step": 3,
    "optimizer_states": [{"state": {0: {"step": torch.tensor(11.0), "exp_avg": WEIGHT + 1}}, "param_groups": [{"betas": (0.9, 0.95)}]}],
    "callbacks": {"best": {"score": math.inf, "seen": {2, 3}, "dtype": torch.bfloat16, "device": torch.device("cpu")}},
}
TOKENS = (b'{"$tensor": 0}', b'"$set"', b"{", b"[" * 3_000, b"NaN", b"1e999", b"9" * 5_000, b"\\ud800", b"\0", b"\xff", b"null", b"-1")


def files_of(content: dict[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint by name."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(content, Path(folder) / "a.ckpt")
        return {name: (Path(folder) / "a.ckpt" / name).read_bytes() for name in FILES}


WHOLE = files_of(CONTENT)


@pytest.fixture(scope="module")
def beside(place: Path) -> Path:
    """A whole checkpoint, to fall back on."""
    checkpoints.save(CONTENT | {"global_step": 1}, place / "checkpoints/beside.ckpt")
    return place / "checkpoints/beside.ckpt"


def changed_to(beside: Path, **changed: bytes) -> Path:
    """A checkpoint beside the whole one, some of whose files are others."""
    folder = beside.with_name("fuzzed.ckpt")
    folder.mkdir(exist_ok=True)
    for name, content in {**WHOLE, **changed}.items():
        put(folder / name, content)
    return folder


def seal_again(folder: Path) -> None:
    """Gives a checkpoint a manifest that fits its files."""
    (folder / MANIFEST).unlink()
    seal(folder, (STATE, TENSORS, WEIGHTS), 3)


def read(folder: Path) -> dict[str, Any] | None:
    """The content of a checkpoint; None when it is refused by its name."""
    try:
        return checkpoints.read(folder)
    except checkpoints.Damaged as error:
        check_told(error, folder.name)
        return None


def resumed(folder: Path) -> Path:
    """The checkpoint that a run goes on from that was told to go on from this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return checkpoints.resumable(folder)


def same(one: Any, other: Any) -> bool:
    """Whether two contents are alike."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other


@fuzz(1_000, changed=st.sampled_from(FILES).flatmap(lambda name: st.tuples(st.just(name), mutated(WHOLE[name], tokens=TOKENS))))
def test_a_checkpoint_that_was_changed_is_refused_by_its_name_or_what_was_written_and_a_run_goes_on_from_one_that_is_whole(changed, beside):
    folder = changed_to(beside, **dict([changed]))
    found = read(folder)
    assert found is None or same(CONTENT, found)
    assert resumed(folder) == (beside if found is None else folder)


@fuzz(
    600,
    said=altered(
        {key: value for key, value in json.loads(WHOLE[MANIFEST]).items() if key != "sha256"},
        st.one_of(odd_values, st.sampled_from([2**70, "0" * 64, json.loads(WHOLE[MANIFEST])["files"][STATE]])),
        names=("n" * 300, "q/" * 2_100, "../beside.ckpt/state.json", "/etc/hostname", ".", "a\0b", "\ud800", STATE, MANIFEST),
    ),
)
def test_a_manifest_that_says_something_else_with_a_right_sum_of_its_own_is_refused_or_the_content_is_what_was_written(said, beside):
    sealed = said | {"sha256": sum_of(said)} if isinstance(said, dict) else said
    folder = changed_to(beside, **{MANIFEST: json.dumps(sealed).encode()})
    found = read(folder)
    assert found is None or same(CONTENT, found)
    assert resumed(folder) == (beside if found is None else folder)


@fuzz(
    700,
    state=st.one_of(mutated(WHOLE[STATE], tokens=TOKENS), altered(json.loads(WHOLE[STATE]), odd_values).map(lambda tree: json.dumps(tree).encode())),
)
def test_a_state_that_was_changed_and_sealed_again_is_refused_or_a_checkpoint(state, beside):
    folder = changed_to(beside, **{STATE: state})
    seal_again(folder)
    assert isinstance(read(folder), dict | None)


@fuzz(700, changed=st.sampled_from([TENSORS, WEIGHTS]).flatmap(lambda name: st.tuples(st.just(name), changed_tensors(WHOLE[name]))))
def test_tensors_that_were_changed_and_sealed_again_are_refused_or_tensors(changed, beside):
    folder = changed_to(beside, **dict([changed]))
    seal_again(folder)
    found = read(folder)
    assert found is None or all(isinstance(value, torch.Tensor) for value in found["state_dict"].values())
