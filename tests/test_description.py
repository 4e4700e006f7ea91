"""A module is what it was built with: told in plain data, and built again from it."""

import copy
import json
import pickle
import sys
from functools import partial

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

import perceiver
from perceiver.adapters import Adapter, projection
from perceiver.blocks import MLP, CrossBlock, SelfBlock, recompute
from perceiver.description import build, describe
from perceiver.encoder import Encoder
from perceiver.tokens import Tokens
from tests.builders import CLASSES, DIM, MODELS, small_perceiver
from tests.pretrained.test_published import CASES, ours, reference


def shapes(module):
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_built_again_from_what_json_keeps_of_it(name):
    model = MODELS[name]()
    again = build(json.loads(json.dumps(describe(model))))
    assert type(again) is type(model) and shapes(again) == shapes(model) and describe(again) == describe(model)


@pytest.mark.parametrize("whose", ["hf", "deepmind"])
@pytest.mark.parametrize("case", [case for case in CASES if "," not in case])
def test_a_published_model_is_built_again_with_its_semantics(case, whose):
    model = ours(case, reference(case), whose)
    again = build(json.loads(json.dumps(describe(model))))
    assert shapes(again) == shapes(model) and str(again) == str(model)  # `str` tells activations, strides and classes


def test_what_the_command_line_builds_is_described_as_what_python_builds():
    parser = ArgumentParser()
    parser.add_subclass_arguments(Encoder, "encoder")
    mlp = {"class_path": "perceiver.blocks.MLP", "init_args": {"widening": 2}}
    block = {"class_path": "perceiver.blocks.CrossBlock", "init_args": {"heads": 2, "mlp": mlp}}
    layer = {"class_path": "perceiver.blocks.SelfBlock", "init_args": {"heads": 2}}
    settings = {"num_latents": 3, "dim": DIM, "context_dim": 11, "cross_block": block, "self_block": layer, "run_block": "perceiver.recompute"}
    built = parser.instantiate(parser.parse_object({"encoder": {"class_path": "perceiver.Encoder", "init_args": settings}})).encoder
    read = partial(CrossBlock, heads=2, mlp=partial(MLP, widening=2))
    written = Encoder(3, DIM, 11, cross_block=read, self_block=partial(SelfBlock, heads=2), run_block=recompute)
    assert shapes(build(describe(built))) == shapes(built) == shapes(written)
    assert describe(built)["args"]["run_block"] == describe(written)["args"]["run_block"] == {"name": "perceiver.blocks.recompute"}


def test_a_part_that_was_replaced_is_described_as_it_is_now():
    model = small_perceiver()
    model.head = nn.Sequential(nn.Linear(DIM, 23, bias=False), nn.GELU("tanh"), nn.LayerNorm(23), nn.Linear(23, CLASSES + 4))
    again = build(describe(model))
    assert shapes(again) == shapes(model) and str(again) == str(model)


def test_an_adapter_of_ones_own_needs_nothing_to_be_described():
    class Numbers(Adapter):
        def __init__(self, width: int, *, scale: float = 1.5) -> None:
            super().__init__()
            self.feature_dim, self.position_dim, self.scale = width, 0, scale

        def forward(self, payload, mask=None):
            return Tokens(payload[:, None] * self.scale, (1,))

    again = build(describe(Numbers(5, scale=2.5)))
    assert (again.feature_dim, again.scale) == (5, 2.5)


def test_arguments_that_are_passed_on_by_name_are_kept_and_those_without_a_name_refused():
    class Finer(perceiver.ImagePatches):
        def __init__(self, *where, **options):
            super().__init__(*where, **options)

    again = build(describe(Finer(channels=2, size=(4, 6), patch=2)))
    assert (again.channels, again.size, again.patch) == (2, (4, 6), 2)
    with pytest.raises(ValueError, match=r"Finer was built with \*where, which cannot be described"):
        describe(Finer(2, (4, 6)))


def test_the_arguments_of_the_class_itself_are_kept_and_not_those_it_passes_on():
    assert perceiver.ImagePixels(1, (3, 5)).arguments == {"channels": 1, "size": (3, 5), "num_bands": 64, "mean": 0.5, "std": 0.5}


@pytest.mark.parametrize("own", [lambda dim, context: CrossBlock(dim, context), nn.TransformerEncoderLayer, partial(projection, dim=5)])
def test_what_no_description_can_tell_is_named(own):
    with pytest.raises(ValueError, match="cannot be described"):
        describe({"block": own})


@pytest.mark.parametrize(
    "description",
    [
        {"class": "os.system", "args": {"command": "false"}},
        {"class": "antigravity.Flight", "args": {}},
        {"class": "perceiver.data.download.fetch", "args": {}},
        {"class": "torch.load", "args": {"f": "x"}},
        {"name": "builtins.eval"},
        {"partial": "subprocess.Popen", "args": {"args": ["false"]}},
        {"class": ["torch.nn.Linear"], "args": {}},
    ],
)
def test_a_description_makes_nothing_run_and_imports_nothing(description):
    with pytest.raises(ValueError, match="is no part of this library"):
        build({"class": "torch.nn.Sequential", "args": {"0": description}})
    assert "antigravity" not in sys.modules


def test_a_function_is_named_and_never_called():
    with pytest.raises(ValueError, match="is a function"):
        build({"class": "perceiver.blocks.recompute", "args": {"block": None}})


@pytest.mark.parametrize(
    "args", [{"in_features": 3}, {"in_features": 3, "out_features": 2, "colour": "red"}, {"in_features": "x", "out_features": 2}]
)
def test_arguments_that_a_class_does_not_take_are_refused_with_its_name(args):
    with pytest.raises(ValueError, match=r"torch\.nn\.Linear cannot be built"):
        build({"class": "torch.nn.Linear", "args": args})


def test_a_copy_remembers_too():
    model = small_perceiver()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert describe(again) == describe(model)
        assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
