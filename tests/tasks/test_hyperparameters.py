"""A checkpoint says how a task was built, and cannot say what is run."""

import sys

import pytest
import torch

from perceiver.tasks import Classification
from perceiver.tasks.hyperparameters import INSTANTIATOR, check_names


class Mine(torch.nn.Module):
    """A module of the caller's own, which is imported already."""


@pytest.mark.parametrize(
    "value",
    [
        {"_instantiator": INSTANTIATOR, "_class_path": "perceiver.tasks.Classification"},
        {"model": {"class_path": "perceiver.models.PerceiverIO", "init_args": {"project": "perceiver.adapters.projection"}}},
        {"optimizer": {"class_path": "torch.optim.SGD"}},
        {"model": {"class_path": f"{__name__}.Mine"}},
        {"file": "table.csv", "number": 0.5, "words": ["a.b c", "v1.2", "."], "none": None},
    ],
)
def test_parts_of_this_library_and_what_was_imported_may_be_named(value):
    check_names(value)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"_instantiator": "os.system"}, "os.system"),
        ({"_instantiator": "perceiver.hub.fetch"}, "perceiver.hub.fetch"),
        ({"model": {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}}, "subprocess.Popen"),
        ({"model": {"init_args": {"project": "os.system"}}}, "os.system"),
        ({"adapters": [{"class_path": "antigravity.Any"}]}, "antigravity.Any"),
        ({"model": {"class_path": "xml.dom.minidom.Document"}}, "xml.dom.minidom.Document"),
        ({"model": "class_path: antigravity.Any"}, "antigravity.Any"),
        ({"model": '["{class_path: antigravity.Any}"]'}, "antigravity.Any"),
    ],
)
def test_what_would_be_imported_or_is_no_part_of_a_model_is_refused_by_name(value, named):
    before = set(sys.modules)
    with pytest.raises(ValueError, match=f"names '{named}', which is no part of this library"):
        check_names(value)
    assert set(sys.modules) == before


def test_a_file_that_is_named_is_read_as_a_configuration_would_be(tmp_path):
    (tmp_path / "model").write_text("init_args: {project: antigravity.any}")
    with pytest.raises(ValueError, match="names 'antigravity.any'"):
        check_names({"model": str(tmp_path / "model")})
    (tmp_path / "weights").write_bytes(b"\0\xff")
    check_names({"init_from": {"source": str(tmp_path / "weights")}})


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
@pytest.mark.parametrize("model", ["antigravity.Any", "class_path: antigravity.Any", {"class_path": "antigravity.Any"}])
def test_a_task_imports_nothing_that_its_checkpoint_names_in_whatever_form(tmp_path, key, model):
    said = {"_instantiator": INSTANTIATOR, "_class_path": "perceiver.tasks.Classification", "model": model, "num_classes": 3}
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.1", "epoch": 0, "global_step": 0, key: said}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=f"^{key}.* names 'antigravity.Any'"):
        Classification.load_from_checkpoint(tmp_path / "a.ckpt")
    assert "antigravity" not in sys.modules


def test_what_has_no_end_is_refused_and_devices_are_not_read(tmp_path):
    (tmp_path / "itself").write_text(f"model: {tmp_path / 'itself'}")
    (tmp_path / "long").write_text("a" * 1_000_001)
    for value, told in (
        (str(tmp_path / "itself"), "nested too deeply"),
        ("[" * 5_000, "nested too deeply"),
        ("[&a [x, x], [*a, *a]]", "YAML with aliases"),
        (str(tmp_path / "long"), "a text of more than 1,000,000 bytes"),
    ):
        with pytest.raises(ValueError, match=f"^model.* in this checkpoint .*{told}"):
            check_names(value, "model")
    check_names("/dev/zero", "model")
