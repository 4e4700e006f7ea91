"""Fixed attention: weights do not change with what is read, and all that is promised of masks and modalities holds all the same."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from builders import ROWS, raw_entries
from jsonargparse import ArgumentParser
from models.test_controls import io_with
from torch import Tensor, nn

from perceiver.adapters import PlacedBytes
from perceiver.attention import Attention
from perceiver.blocks import CrossBlock, SelfBlock
from perceiver.fixed_attention import ConstantAttention, UniformAttention, numbered
from perceiver.positions import Positions
from perceiver.soft_weights import each_head, record_attention, record_mass
from perceiver.tokens import Tokens

DIM, WIDTH, HEADS, QUERIES = 6, 10, 2, 3
both = pytest.mark.parametrize("kind", [UniformAttention, ConstantAttention])


def tokens(grid: tuple[int, ...], channels: int, *, rows: Tensor | None = None, mask: Tensor | None = None) -> Tokens:
    """Random tokens of a grid, projected to the width of the context and normed."""
    number = ROWS if rows is None else len(rows)
    positions = Positions(tuple(torch.randn(n, 3) for n in grid))
    project = nn.Linear(channels + 3 * len(grid), WIDTH)
    return Tokens(torch.randn(number, math.prod(grid), channels), grid, positions, mask, rows, project, norm=nn.LayerNorm(WIDTH))


def context() -> dict[str, Tokens]:
    """Two modalities: one that all rows have, in part, and one that two rows have."""
    mask = torch.rand(ROWS, 7) < 0.6
    mask[:, 0] = True
    return {"sound": tokens((7,), 4, mask=mask), "picture": tokens((2, 5), 2, rows=torch.tensor([1, 4]))}


def changed(segments: dict[str, Tokens]) -> dict[str, Tokens]:
    """The same places with other data."""
    return {name: replace(one, features=torch.randn_like(one.features)) for name, one in segments.items()}


def joined(segments: dict[str, Tokens]) -> dict[str, Tokens]:
    """As an encoder hands them to its blocks: joined first, and normed by each block after that."""
    return {name: replace(replace(one, norm=None).dense(), norm=one.norm) for name, one in segments.items()}


def weights(attention: Attention, x: Tensor | Tokens, context: object, mask: Tensor | None = None) -> dict[str, Tensor]:
    with record_attention(nn.ModuleDict({"a": attention}), over_heads=each_head) as maps:
        attention(x, context, mask)
    return maps[0].weights


def test_uniform_attention_reads_the_mean_of_all_that_may_be_attended() -> None:
    attention, segments, x = UniformAttention(DIM, WIDTH, heads=HEADS), context(), torch.randn(ROWS, QUERIES, DIM)
    dense = {name: one.dense() for name, one in segments.items()}
    features = torch.cat([one.to_batch(one.features, ROWS) for one in dense.values()], 1)
    valid = torch.cat([one.attendable(ROWS) for one in dense.values()], 1)
    means = torch.stack([features[row, valid[row]].mean(0) for row in range(ROWS)])
    expected = attention.to_out(attention.to_v(means))[:, None].expand(-1, QUERIES, -1)
    assert torch.allclose(attention(x, segments), expected, atol=1e-5)
    assert torch.allclose(attention(x, joined(segments)), expected, atol=1e-5)
    shares = weights(attention, x, segments)
    assert torch.allclose(shares["picture"][4], torch.full((HEADS, QUERIES, 2, 5), 1 / int(valid[4].sum())))
    assert not shares["picture"][0].any()


@both
def test_weights_depend_on_nothing_that_is_read(kind: type[Attention]) -> None:
    attention, segments = kind(DIM, WIDTH, heads=HEADS), context()
    first, again, other = (
        weights(attention, torch.randn(ROWS, QUERIES, DIM), one) for one in (segments, joined(segments), joined(changed(segments)))
    )
    for name in segments:
        assert torch.equal(again[name], other[name]) and torch.allclose(first[name], again[name], atol=1e-6), name
    latents = [weights(attention, torch.randn(ROWS, QUERIES, DIM), torch.randn(ROWS, 11, WIDTH))["context"] for _ in range(2)]
    assert torch.equal(*latents)


def test_constant_weights_depend_on_the_places_of_query_and_key_and_on_the_modality() -> None:
    attention, segments = ConstantAttention(DIM, WIDTH, heads=HEADS), context()
    found = weights(attention, torch.randn(ROWS, QUERIES, DIM), segments)["picture"][1]
    assert not torch.isclose(found[:, 0], found[:, 1]).any()
    assert len({round(float(weight), 7) for weight in found[0, 0].flatten()}) == 10
    elsewhere = segments | {"picture": replace(segments["picture"], project=nn.Linear(8, WIDTH))}
    assert not torch.isclose(weights(attention, torch.randn(ROWS, QUERIES, DIM), elsewhere)["picture"][1], found).any()


def test_constant_weights_of_a_row_are_those_of_all_places_over_what_it_has() -> None:
    attention, segments, x = ConstantAttention(DIM, WIDTH, heads=HEADS), context(), torch.randn(ROWS, QUERIES, DIM)
    whole = {name: replace(one, features=torch.randn(ROWS, *one.features.shape[1:]), mask=None, rows=None) for name, one in segments.items()}
    found, of_all = weights(attention, x, segments), weights(attention, x, whole)
    for row in range(ROWS):
        kept = {name: of_all[name][row].flatten(2) * one.attendable(ROWS)[row] for name, one in segments.items()}
        total = sum(one.sum(-1, keepdim=True) for one in kept.values())
        for name in segments:
            assert torch.allclose(found[name][row].flatten(2), kept[name] / total, atol=1e-6)


@both
def test_what_is_read_is_the_weights_times_the_values_and_mass_is_their_sum(kind: type[Attention]) -> None:
    attention, segments, x = kind(DIM, WIDTH, heads=HEADS), joined(context()), torch.randn(ROWS, QUERIES, DIM)
    found = weights(attention, x, segments)
    read = torch.zeros(ROWS, HEADS, QUERIES, DIM // HEADS)
    for name, one in segments.items():
        values = one.to_batch(attention.to_v(one.dense().features), ROWS).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        read += found[name].flatten(3) @ values
    assert torch.allclose(attention(x, segments), attention.to_out(read.transpose(1, 2).flatten(2)), atol=1e-5)
    with record_mass(nn.ModuleDict({"a": attention}), over_heads=each_head) as masses:
        attention(x, segments)
    for name in segments:
        assert torch.allclose(masses[0].mass[name], found[name].flatten(3).sum(-1), atol=1e-6)


@both
def test_large_grids_and_masks_of_a_tensor_are_read_as_small_ones_are(kind: type[Attention]) -> None:
    attention, large = kind(DIM, WIDTH, heads=HEADS), tokens((32, 37), 2)
    assert large.in_parts
    x = torch.randn(ROWS, QUERIES, DIM)
    first, second = (weights(attention, x, {"picture": one})["picture"] for one in (large, changed({"": large})[""]))
    assert torch.equal(first, second)
    mask = torch.tensor([[True, True, False, True, False]] * ROWS)
    array = torch.randn(ROWS, 5, WIDTH)
    broken = array.masked_fill(~mask[..., None], math.nan)
    assert torch.equal(attention(x, array, mask), attention(x, broken, mask))
    assert not weights(attention, x, broken, mask)["context"][..., [2, 4]].any()


@both
def test_queries_that_are_positions_ask_with_their_places(kind: type[Attention]) -> None:
    asking = Tokens(torch.empty(ROWS, 12, 0), (3, 4), Positions((torch.randn(3, 2), torch.randn(4, DIM - 2))), norm=nn.LayerNorm(DIM))
    assert asking.asks_in_parts
    attention, latents = kind(DIM, WIDTH, heads=HEADS), torch.randn(ROWS, 5, WIDTH)
    found = weights(attention, asking, latents)["context"]
    assert found.shape == (ROWS, HEADS, 12, 5) and attention(asking, latents).shape == (ROWS, 12, DIM)
    assert torch.isclose(found[:, :, 0], found[:, :, 1]).all() == (kind is UniformAttention)


def test_tokens_that_have_no_positions_of_their_own_are_all_alike_to_constant_attention() -> None:
    adapter = PlacedBytes(7, WIDTH)
    mixed = adapter(torch.randint(6, 262, (ROWS, 7)))
    found = weights(ConstantAttention(DIM, WIDTH, heads=HEADS), torch.randn(ROWS, QUERIES, DIM), {"text": mixed})["text"]
    assert torch.allclose(found, torch.full_like(found, 1 / 7))


def test_the_numbers_of_an_array_tell_its_entries_apart() -> None:
    for entries, width in ((8, 64), (3, 14), (1, 5)):
        found = numbered(torch.randn(ROWS, entries, width))[0]
        assert found.shape == (entries, width) and not found.requires_grad
        assert torch.linalg.svdvals(found / width**0.5).min() > 0.1
        assert torch.isclose(found.square().mean(), torch.tensor(1.0), atol=0.3)


@both
def test_a_whole_model_attends_alike_to_any_data_and_answers_by_it(kind: type[Attention]) -> None:
    model = io_with(kind).eval()
    batches = [raw_entries() for _ in range(2)]
    for key in batches[0]:
        if key.endswith("_length"):
            batches[1][key] = batches[0][key]
    found = []
    for batch in batches:
        with record_attention(model) as maps:
            found.append((model(batch), maps))
    (first, maps), (second, others) = found
    assert not torch.isclose(first, second).all(-1).any()
    assert len(maps) == 5
    for one, other in zip(maps, others, strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights), one.layer


@both
@pytest.mark.parametrize("block", [CrossBlock, SelfBlock])
def test_it_is_given_to_a_block_by_its_name(kind: type[Attention], block: Callable[..., nn.Module]) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "block")
    widths = {"dim": DIM, "context_dim": WIDTH} if block is CrossBlock else {"dim": DIM}
    options = widths | {"heads": HEADS, "attention": f"perceiver.fixed_attention.{kind.__name__}"}
    built = parser.instantiate(parser.parse_object({"block": {"class_path": f"perceiver.{block.__name__}", "init_args": options}})).block
    assert type(built.attention) is kind and built.attention.heads == HEADS
