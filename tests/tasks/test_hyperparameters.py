"""A checkpoint says how a task was built, and cannot say what is run."""

import sys

import pytest
import torch

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
    ],
)
def test_what_would_be_imported_or_is_no_part_of_a_model_is_refused_by_name(value, named):
    before = set(sys.modules)
    with pytest.raises(ValueError, match=f"names '{named}', which is no part of this library"):
        check_names(value)
    assert set(sys.modules) == before
