"""Checkpoints: what is saved comes back bit by bit; what is not complete is refused by name; the one before is there until the new one is."""

import errno
import json
import math
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from perceiver import checkpoints
from perceiver.checkpoints import folder as folders
from perceiver.checkpoints import newest
from perceiver.checkpoints.content import pack, unpack
from perceiver.checkpoints.manifest import sum_of
from perceiver.resume import WholeCheckpoints

FILES = ("MANIFEST.json", "state.json", "state.safetensors", "weights.safetensors")


def content(step: int = 3) -> dict:
    """A checkpoint as a training makes it, with all that JSON has not."""
    draw = torch.Generator().manual_seed(step)
    weight = torch.randn(5, 7, generator=draw)
    return {
        "global_step": step,
        "epoch": 1,
        "state_dict": OrderedDict({"model.weight": weight, "model.tied": weight, "model.slice": weight[1:3].T}),
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(11.0), "exp_avg": weight * 2}}, "param_groups": [{"betas": (0.9, 0.95), "lr": 1e-3}]}
        ],
        "callbacks": {"best": {"score": torch.tensor(math.inf), "low": -math.inf, "paths": {"$a": 1}, "none": None, "seen": {2, 3}}},
        "odd": [np.float32(0.25), np.int64(13), True, torch.bfloat16, torch.device("cpu"), Path("a/b"), torch.zeros(0, 2), np.arange(3)],
    }


def same(a, b) -> bool:
    """Whether two contents are alike to the last bit."""
    if isinstance(a, torch.Tensor | np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return str(a) == b if isinstance(a, Path) else a == b


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    checkpoints.save(content(), tmp_path / "last.ckpt")
    assert sorted(file.name for file in (tmp_path / "last.ckpt").iterdir()) == sorted(FILES)
    assert same(content(), checkpoints.read(tmp_path / "last.ckpt"))
    assert not (tmp_path / "last.ckpt.part").exists()


@pytest.mark.parametrize("value", [np.array(5.0), np.arange(5)[::-2], {frozenset({1}): 2}, {frozenset({1})}, {"__metadata__": torch.ones(2)}])
def test_what_has_no_axis_no_order_or_an_odd_name_comes_back_as_it_was(tmp_path, value):
    checkpoints.save({"global_step": 3, "state_dict": {}, "value": value, "__metadata__": torch.ones(3)}, tmp_path / "last.ckpt")
    found = checkpoints.read(tmp_path / "last.ckpt")
    assert same(value, found["value"]) and same(found["__metadata__"], torch.ones(3))


UNFIT = [
    np.datetime64("2020-02-02"),
    np.complex64(1j),
    np.longdouble(0.1),
    np.array(["x"]),
    np.arange(3, dtype=">i4"),
    torch.eye(2).to_sparse(),
    torch.ones(2, device="meta"),
    torch.ones(2, dtype=torch.complex128),
]


@pytest.mark.parametrize("value", UNFIT, ids=str)
def test_what_no_checkpoint_can_hold_is_refused_by_its_place_and_nothing_is_touched(tmp_path, value):
    for given, place in (({"state_dict": {}, "callbacks": {"mine": [value]}}, "callbacks/mine/0"), ({"state_dict": {"w": value}}, "(state_dict/)?w")):
        with pytest.raises(ValueError, match=rf"^{place} is "):
            checkpoints.save(given, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_manifest_without_one_of_the_files_is_no_checkpoint_to_go_on_from(tmp_path):
    checkpoints.save(content(), tmp_path / "last.ckpt")
    resealed(tmp_path / "last.ckpt", {}, without="state.json")
    with pytest.raises(checkpoints.Damaged, match=r"last\.ckpt has no state\.json, and no other checkpoint"):
        checkpoints.resumable(tmp_path / "last.ckpt")


def resealed(folder: Path, more: dict, without: str = "") -> None:
    """Changes the files that a manifest names, and gives it a right sum of its own."""
    said = json.loads((folder / "MANIFEST.json").read_text())
    del said["sha256"]
    said["files"] = {name: one for name, one in said["files"].items() if name != without} | more
    (folder / "MANIFEST.json").write_text(json.dumps(said | {"sha256": sum_of(said)}))


def test_not_a_number_comes_back_as_itself():
    assert math.isnan(unpack(json.loads(json.dumps(pack(math.nan, {}))), {}))


def test_the_one_before_is_kept_and_a_third_takes_its_place(tmp_path):
    for step in (3, 5, 8):
        checkpoints.save(content(step), tmp_path / "last.ckpt")
    assert checkpoints.read(tmp_path / "last.ckpt")["global_step"] == 8
    assert checkpoints.read(tmp_path / "last.ckpt.previous")["global_step"] == 5
    checkpoints.remove(tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_refused_by_its_name_and_the_newest_complete_one_is_taken_with_a_warning(tmp_path, name):
    for step in (3, 5):
        checkpoints.save(content(step), tmp_path / "last.ckpt")
    file = tmp_path / "last.ckpt" / name
    bits = bytearray(file.read_bytes())
    bits[len(bits) // 2] ^= 4
    file.write_bytes(bits)
    with pytest.raises(checkpoints.Damaged, match=name):
        checkpoints.read(tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=rf"{name}.*resuming from .*last\.ckpt\.previous, step 3, the newest complete"):
        found = checkpoints.resumable(tmp_path / "last.ckpt")
    assert checkpoints.read(found)["global_step"] == 3


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_file_that_is_cut_or_gone_is_refused_by_its_name(tmp_path, name, how):
    checkpoints.save(content(), tmp_path / "last.ckpt")
    file = tmp_path / "last.ckpt" / name
    os.truncate(file, file.stat().st_size // 2) if how == "cut" else file.unlink()
    with pytest.raises(checkpoints.Damaged, match=name):
        checkpoints.read(tmp_path / "last.ckpt")
    with pytest.raises(checkpoints.Damaged, match="no other checkpoint beside it is complete"):
        checkpoints.resumable(tmp_path / "last.ckpt")


def test_files_of_two_checkpoints_are_none(tmp_path):
    for step in (3, 5):
        checkpoints.save(content(step), tmp_path / f"{step}.ckpt")
    shutil.copy(tmp_path / "3.ckpt" / "state.safetensors", tmp_path / "5.ckpt" / "state.safetensors")
    with pytest.raises(checkpoints.Damaged, match=r"5\.ckpt/state\.safetensors is damaged"):
        checkpoints.read(tmp_path / "5.ckpt")


class Killed(BaseException):
    """In place of SIGKILL: nothing that handles errors sees it."""


@pytest.mark.parametrize(
    ("point", "call"),
    [("write_tensors", 0), ("write_tensors", 1), ("write_text", 0), ("seal", 0), ("verify", 0), ("take_place", 0), ("os.rename", 0), ("os.rename", 1)]
    + [("sync", call) for call in range(3)],
)
def test_whenever_a_process_dies_while_it_saves_there_is_a_complete_checkpoint(tmp_path, monkeypatch, point, call):
    place = tmp_path / "last.ckpt"
    for step in (3, 5):
        checkpoints.save(content(step), place)
    owner, name = (folders.os, "rename") if point == "os.rename" else (folders, point)
    real, calls = getattr(owner, name), []

    def die(*given, **options):
        calls.append(name)
        if len(calls) == call + 1:
            raise Killed
        return real(*given, **options)

    monkeypatch.setattr(owner, name, die)
    with pytest.raises(Killed):
        checkpoints.save(content(8), place)
    monkeypatch.undo()
    found = checkpoints.resumable(place) if place.exists() else fallen_back(place)
    assert checkpoints.read(found)["global_step"] in (5, 8)
    checkpoints.save(content(9), place)
    assert checkpoints.read(place)["global_step"] == 9
    assert checkpoints.read(tmp_path / "last.ckpt.previous")["global_step"] in (5, 8)
    assert not (tmp_path / "last.ckpt.part").exists()


def fallen_back(place: Path) -> Path:
    """What is resumed from when there is nothing in a checkpoint's place."""
    with pytest.warns(UserWarning, match=r"last\.ckpt is missing: resuming from"):
        return checkpoints.resumable(place)


def test_a_disk_that_is_full_is_named_with_bytes_and_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoints.save(content(3), tmp_path / "last.ckpt")

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "sync", full)
    with pytest.raises(OSError, match=r"last\.ckpt cannot be written: it takes [\d,]+ bytes, and [\d,]+ are free there \(No space left.*as it was"):
        checkpoints.save(content(5), tmp_path / "last.ckpt")
    monkeypatch.undo()
    assert checkpoints.read(tmp_path / "last.ckpt")["global_step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_newest_of_a_run_is_found_by_its_step(tmp_path):
    for name, step in (("best", 5), ("last", 8), ("first", 2)):
        checkpoints.save(content(step), tmp_path / "checkpoints" / f"{name}.ckpt")
    assert checkpoints.resumable(tmp_path).name == "last.ckpt" and checkpoints.resumable(tmp_path / "checkpoints").name == "last.ckpt"
    (tmp_path / "checkpoints/last.ckpt/MANIFEST.json").unlink()
    with pytest.warns(UserWarning, match=r"resuming from .*best\.ckpt, step 5"):
        assert checkpoints.resumable(tmp_path / "checkpoints/last.ckpt").name == "best.ckpt"


def test_an_object_that_only_a_pickle_could_hold_is_refused_and_named(tmp_path):
    with pytest.raises(ValueError, match="callbacks/mine/thing is a .*Killed, which only a pickle can hold"):
        checkpoints.save({"callbacks": {"mine": {"thing": Killed()}}}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "state",
    [
        '{"$tensor": "none"}',
        '{"$import": "os.system"}',
        '{"$dtype": ["float32"]}',
        '{"$device": "touch"}',
        '{"$dict": [1]}',
        '{"$dict": [[{"a": 1}, 2]]}',
        '{"$float": "1"}',
        '{"$a": 1, "b": 2}',
        "[1]",
        "{",
        "[" * 10_000,
    ],
)
def test_a_state_that_no_checkpoint_has_is_refused_although_its_sum_is_right(tmp_path, state):
    place = tmp_path / "last.ckpt"
    checkpoints.save(content(), place)
    (place / "state.json").write_text(state)
    folders.seal(place, FILES[1:], 3)
    with pytest.raises(checkpoints.Damaged, match=r"last\.ckpt"):
        checkpoints.read(place)


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "", "..", "MANIFEST.json", "n" * 300, "\ud800", "two\nlines"])
def test_a_manifest_that_names_a_file_elsewhere_or_none_is_refused(tmp_path, name):
    place = tmp_path / "last.ckpt"
    checkpoints.save(content(), place)
    resealed(place, {name: json.loads((place / "MANIFEST.json").read_text())["files"]["state.json"]})
    with pytest.raises(checkpoints.Damaged, match="which is no file of a checkpoint"):
        checkpoints.read(place)


def test_a_link_in_place_of_a_file_is_refused(tmp_path):
    place = tmp_path / "last.ckpt"
    checkpoints.save(content(), place)
    (place / "state.json").rename(tmp_path / "elsewhere")
    (place / "state.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(checkpoints.Damaged, match=r"state\.json is missing"):
        checkpoints.read(place)


@pytest.mark.parametrize("address", ["http://localhost/a.ckpt", "https://localhost/a.ckpt", "s3://bucket/a.ckpt"])
def test_an_address_is_refused(address):
    with pytest.raises(ValueError, match=f"^{address} is an address: checkpoints are read from and written to this machine"):
        checkpoints.read(Path(address))
    with pytest.raises(ValueError, match="is an address"):
        checkpoints.resumable(Path(address))


def test_a_file_of_pytorch_is_read_too_but_not_when_it_was_packed_to_burst(tmp_path):
    torch.save(content(), tmp_path / "plain.ckpt")
    with pytest.raises(checkpoints.Damaged, match="holds more than weights"):  # arrays of numpy need a class of numpy
        checkpoints.read(tmp_path / "plain.ckpt")
    torch.save({"global_step": 3, "state_dict": {"a": torch.zeros(1_000_003)}}, tmp_path / "a.ckpt")
    assert checkpoints.read(tmp_path / "a.ckpt")["global_step"] == 3
    with zipfile.ZipFile(tmp_path / "a.ckpt") as plain, zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(checkpoints.Damaged, match="no checkpoint is packed like that"):
        checkpoints.read(tmp_path / "bomb.ckpt")


def test_code_in_a_file_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    for name, write in (("old", lambda file: file.write_bytes(pickle.dumps({"a": Code()}))), ("new", lambda file: torch.save({"a": Code()}, file))):
        write(tmp_path / f"{name}.ckpt")
        with pytest.raises(checkpoints.Damaged, match=f"{name}.ckpt is damaged, or holds more than weights") as told:
            checkpoints.read(tmp_path / f"{name}.ckpt")
        assert not any(advice in str(told.value) for advice in ("weights_only", "Please", "trust"))  # of PyTorch, on how to run it
    assert not (tmp_path / "ran").exists()


def test_room_is_asked_for_before_it_is_needed(tmp_path, monkeypatch):
    model = torch.nn.Linear(11, 13)
    needed = checkpoints.bytes_needed(model)
    assert needed == 3 * 4 * (11 * 13 + 13)
    checkpoints.check_room(tmp_path / "new", needed, ["last.ckpt"])
    with pytest.raises(OSError, match=r"[\d,]+ bytes free, and checkpoints take up to .*two each of best\.ckpt, last\.ckpt with"):
        checkpoints.check_room(tmp_path, 10**15, ["last.ckpt", "best.ckpt"])
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="checkpoints cannot be written to .*file"):
        checkpoints.check_room(tmp_path / "file" / "below", needed, ["last.ckpt"])
    monkeypatch.setattr("perceiver.checkpoints.room.resource.getrlimit", lambda which: (100, 100))
    with pytest.raises(OSError, match="may write files of 100 only"):
        checkpoints.check_room(tmp_path, needed, ["last.ckpt"])


def test_the_newest_checkpoint_survives_an_error_while_what_was_begun_is_ended(tmp_path, monkeypatch):
    place = tmp_path / "last.ckpt"
    for step in (3, 5):
        checkpoints.save(content(step), place)
    place.rename(tmp_path / "last.ckpt.part")  # killed between its two renames

    def fails(*given):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folders.os, "rename", fails)
    with pytest.raises(OSError, match="cannot be written"):
        checkpoints.save(content(8), place)
    monkeypatch.undo()
    assert checkpoints.read(fallen_back(place))["global_step"] == 5


def test_a_checkpoint_that_the_disk_does_not_give_is_passed_over(tmp_path, monkeypatch):
    for step in (3, 5):
        checkpoints.save(content(step), tmp_path / f"{step}.ckpt")
    real = newest.check_complete

    def fails(path):
        if path.name == "5.ckpt":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(newest, "check_complete", fails)
    with pytest.warns(UserWarning, match=r"Input/output error: resuming from .*3\.ckpt, step 3"):
        assert checkpoints.resumable(tmp_path / "5.ckpt") == tmp_path / "3.ckpt"


@pytest.mark.parametrize("address", ["s3://bucket/run/last.ckpt", "https://localhost/last.ckpt"])
def test_nothing_is_written_to_a_folder_that_is_called_like_an_address(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{address} is an address: checkpoints are read from and written to this machine"):
        WholeCheckpoints().save_checkpoint(content(), address)
    assert not list(tmp_path.iterdir())
