"""Registers: every read takes them beside the inputs, their attention mass is seen, and a model without them is as it was."""

import math
from functools import partial

import pytest
import torch
from builders import CLASSES, CONTEXT_DIM, DIM, LATENTS, ROWS, presence_table, raw_entries, small_encoder, three_adapters, whole_batch
from torch import nn

import perceiver
from perceiver.blocks import CrossBlock
from perceiver.models import Perceiver
from perceiver.parts import check_parts, depths, parts_of
from perceiver.positions import Positions
from perceiver.registers import Registers
from perceiver.soft_weights import record_attention, record_mass
from perceiver.tasks import param_groups
from perceiver.tokens import Tokens

REGISTERS = 4


def model(**options: object) -> Perceiver:
    encoder = small_encoder(cross_attend=(0, 1), self_attend=(0, 0), registers=Registers(REGISTERS, CONTEXT_DIM), **options)
    return Perceiver(three_adapters(), encoder, nn.Linear(DIM, CLASSES)).eval()


def segments() -> dict[str, Tokens]:
    return {
        "sound": Tokens(torch.randn(ROWS, 7, CONTEXT_DIM), (7,)),
        "picture": Tokens(torch.randn(2, 6, CONTEXT_DIM), (6,), rows=torch.tensor([0, 3])),
    }


def test_a_read_takes_the_registers_as_tokens_of_every_row() -> None:
    encoder = small_encoder(registers=Registers(REGISTERS, CONTEXT_DIM))
    nn.init.normal_(encoder.registers.weight)
    plain = small_encoder()
    plain.load_state_dict({name: weight for name, weight in encoder.state_dict().items() if not name.startswith("registers")})
    found = segments()
    beside = found | {"others": Tokens(encoder.registers.weight.expand(ROWS, -1, -1), (REGISTERS,))}
    assert torch.allclose(encoder(found, ROWS), plain(beside, ROWS), atol=1e-5)
    assert not torch.isclose(encoder(found, ROWS), plain(found, ROWS), atol=1e-3).all(-1).any()


def test_their_mass_is_recorded_beside_that_of_the_modalities() -> None:
    net, batch = model(), whole_batch(raw_entries(), presence_table([7, 1, 2, 4, 3]))
    with record_mass(net, ("encoder.cross",)) as masses, record_attention(net, ("encoder.cross",)) as maps:
        net(batch)
    assert len(masses) == 2
    for record, found in zip(masses, maps, strict=True):
        assert list(record.mass) == ["image", "audio", "text", "registers"]
        assert torch.allclose(sum(record.mass.values()), torch.ones(ROWS, LATENTS), atol=1e-5)
        assert 0 < record.mass["registers"].min() and record.mass["registers"].max() < 1
        assert found.weights["registers"].shape == (ROWS, LATENTS, REGISTERS)


def test_a_row_with_nothing_reads_the_registers_alone() -> None:
    net, batch = model(), whole_batch(raw_entries(), presence_table([7, 0, 2, 4, 0]), math.nan)
    with record_mass(net, ("encoder.cross",)) as masses:
        out = net(batch)
    assert out.isfinite().all()
    assert torch.allclose(masses[0].mass["registers"][[1, 4]], torch.ones(2, LATENTS))
    assert torch.allclose(out[1], out[4])


def test_a_read_that_names_its_modalities_takes_them_all_the_same() -> None:
    net = model(reads=(["text", "image", "audio"], ["audio"]))
    with record_mass(net, ("encoder.cross",)) as masses:
        net(raw_entries())
    assert [list(record.mass) for record in masses] == [["image", "audio", "text", "registers"], ["audio", "registers"]]


def test_a_large_grid_is_read_beside_them() -> None:
    grid = Tokens(torch.randn(ROWS, 32 * 37, 2), (32, 37), Positions((torch.randn(32, 4), torch.randn(37, 5))))
    assert grid.in_parts
    encoder = small_encoder(registers=Registers(REGISTERS, CONTEXT_DIM))
    nn.init.normal_(encoder.registers.weight)
    assert torch.allclose(encoder({"picture": grid}, ROWS), encoder({"picture": grid.dense()}, ROWS), atol=1e-4)


def test_they_learn_and_do_not_decay() -> None:
    net = model()
    net(raw_entries()).square().sum().backward()
    weight = net.encoder.registers.weight
    assert weight.grad.abs().sum(1).min() > 0
    assert {id(weight)} <= {id(p) for group in param_groups(net, 0.1) if not group["weight_decay"] for p in group["params"]}


def test_they_are_a_part_of_the_encoder_and_lie_as_deep_as_the_latents() -> None:
    net = model()
    assert parts_of(net)["encoder.registers.weight"] == "registers"
    check_parts(["registers", "encoder"], parts_of(net).values())
    assert depths(net)["registers"] == depths(net)["latents"] == 0


def test_a_model_with_them_is_saved_and_read_again(tmp_path) -> None:
    net, batch = model(), raw_entries()
    net.save_pretrained(tmp_path)
    assert torch.equal(perceiver.from_pretrained(tmp_path)(batch), net(batch))


def test_a_model_without_them_starts_from_the_same_random_numbers_as_ever() -> None:
    found = []
    for options in ({}, {"registers": None}):
        torch.manual_seed(3)
        found.append(small_encoder(**options).state_dict())
    assert not any(name.startswith("registers") for name in found[0])
    assert all(torch.equal(weight, found[1][name]) for name, weight in found[0].items())


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="num_registers=0"):
        Registers(0, CONTEXT_DIM)
    with pytest.raises(ValueError, match=f"registers have width 3 and tokens context_dim={CONTEXT_DIM}"):
        small_encoder(registers=Registers(2, 3))
    encoder = small_encoder(registers=Registers(2, CONTEXT_DIM), cross_block=partial(CrossBlock, heads=1))
    with pytest.raises(ValueError, match="a modality is called 'registers'"):
        encoder({"registers": Tokens(torch.randn(ROWS, 2, CONTEXT_DIM), (2,))}, ROWS)
