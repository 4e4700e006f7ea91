"""Parts of a model by name: every weight belongs to one, and a beginning of a name stands for all that begin with it."""

import pytest
import torch
from torch import nn

from perceiver.decoder import Decoder
from perceiver.models import MultitaskPerceiver
from perceiver.parts import check_parts, chosen, depths, part_of, parts_of
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics
from perceiver.queries import LearnedQueries
from tests.builders import DIM, MODELS, small_encoder, small_perceiver_io, three_adapters

KINDS = ("latents", "adapters", "cross_attends", "stacks", "queries", "decoder", "heads")


def two_tasks() -> MultitaskPerceiver:
    model = MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM))
    for task in ("colour", "place"):
        model.add_task(task, LearnedQueries(1, 13), nn.Linear(13, 3))
    return model


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"LateFusion"}))
def test_every_weight_belongs_to_a_part(name):
    assert {part.split(".")[0] for part in parts_of(MODELS[name]()).values()} <= set(KINDS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_weight_belongs_to_a_part(name):
    with torch.device("meta"):
        model = architecture(PUBLISHED[name].architecture).build(PUBLISHED[name], semantics("hf"))
    assert {part_of(key).split(".")[0] for key in model.state_dict()} <= set(KINDS)


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ("encoder.latents.weight", "latents"),
        ("inputs.adapters.sound.positions.weight", "adapters.sound"),
        ("inputs.projections.sound.bias", "adapters.sound"),
        ("encoder.cross.2.norm_x.weight", "cross_attends.2"),
        ("encoder.stacks.1.3.mlp.0.bias", "stacks.1.3"),
        ("queries.weight", "queries"),
        ("readouts.colour.queries.weight", "queries.colour"),
        ("readouts.colour.head.bias", "heads.colour"),
        ("decoder.cross.norm_x.weight", "decoder"),
        ("head.weight", "heads"),
        ("something.of.mine", "something"),
    ],
)
def test_a_name_tells_the_part(weight, part):
    assert part_of(weight) == part


def test_a_beginning_of_a_name_stands_for_all_that_begin_with_it_and_for_no_other():
    assert chosen("stacks.1.0", ["stacks"]) and chosen("stacks.1.0", ["stacks.1"]) and not chosen("stacks.10.0", ["stacks.1"])
    assert all(chosen(part, ["encoder"]) for part in ("latents", "cross_attends.0", "stacks.0.0"))
    assert not any(chosen(part, ["encoder"]) for part in ("decoder", "adapters.text", "heads"))


def test_a_name_that_is_no_part_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"'stack' is no part of this model, which has adapters.audio, .*stacks.0.0"):
        check_parts(["latents", "stack"], parts_of(small_perceiver_io()).values())


def test_depth_follows_the_order_in_which_layers_first_run():
    model = small_perceiver_io()
    model.encoder = small_encoder(cross_attend=(0, None, 1), self_attend=(0, 1, 0), num_layers=2)
    found = depths(model)
    order = sorted(found, key=lambda part: (found[part], part))
    assert order[:4] == ["adapters.audio", "adapters.image", "adapters.text", "latents"]
    assert order[4:] == ["cross_attends.0", "stacks.0.0", "stacks.0.1", "stacks.1.0", "stacks.1.1", "cross_attends.1", "decoder", "queries", "heads"]
    assert [found[part] for part in order] == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8]
    assert depths(two_tasks())["heads.colour"] > depths(two_tasks())["decoder"] > depths(two_tasks())["stacks.0.0"]
