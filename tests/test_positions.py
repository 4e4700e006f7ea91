"""Positions: the published features, never formed when not needed; learned tables; rotary embeddings."""

import math

import pytest
import torch
from torch import Tensor
from transformers.models.perceiver.modeling_perceiver import build_linear_positions, generate_fourier_features

from perceiver.attention import Attention
from perceiver.positions import FourierPositions, LearnedPositions, Positions, Rotary, fourier_axis, rotary_angles, rotate


@pytest.mark.parametrize("shape", [(7,), (5, 3), (3, 2, 5)])
@pytest.mark.parametrize("num_bands", [1, 4])
@pytest.mark.parametrize("stretched", [False, True])
def test_fourier_positions_are_the_published_ones_channel_by_channel(shape: tuple[int, ...], num_bands: int, stretched: bool) -> None:
    resolution = tuple(2 * n + 3 for n in shape) if stretched else shape
    ours = FourierPositions(shape, num_bands, max_resolution=resolution)
    places = build_linear_positions(shape).reshape(1, -1, len(shape))
    theirs = generate_fourier_features(places, num_bands, max_resolution=resolution, concat_pos=True, sine_only=False)[0]
    assert ours.width == theirs.shape[1] == len(shape) * (2 * num_bands + 1)
    torch.testing.assert_close(ours(shape).dense(), theirs, rtol=0, atol=2e-5)


def test_another_grid_keeps_the_frequencies_and_stretches_the_positions() -> None:
    positions = FourierPositions((5, 3), 4)
    larger = build_linear_positions((7, 2)).reshape(1, -1, 2)
    theirs = generate_fourier_features(larger, 4, max_resolution=(5, 3))[0]
    torch.testing.assert_close(positions((7, 2)).dense(), theirs, rtol=0, atol=2e-5)


def grids() -> list[Positions]:
    """One, two and three axes; with and without groups; axes of different widths."""
    return [
        Positions((torch.randn(7, 5),)),
        Positions((torch.randn(7, 5),), groups=(1, 2, 2)),
        Positions((torch.randn(7, 5), torch.randn(3, 2))),
        Positions((torch.randn(7, 5), torch.randn(3, 5)), groups=(3, 2)),
        Positions((torch.randn(7, 5), torch.randn(3, 2), torch.randn(2, 11))),
        Positions((torch.randn(7, 5), torch.randn(3, 5), torch.randn(2, 5)), groups=(1, 2, 2)),
    ]


@pytest.mark.parametrize("number", range(6))
def test_projected_positions_equal_the_projection_of_dense_positions(number: int) -> None:
    positions = grids()[number]
    weight = torch.randn(13, positions.width)
    dense = positions.dense()
    assert dense.shape == (positions.num_tokens, positions.width)
    torch.testing.assert_close(positions.projected(weight), dense @ weight.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", range(6))
def test_the_gradients_of_projected_positions_equal_those_of_dense_ones(number: int) -> None:
    positions = grids()[number]
    positions = Positions(tuple(table.double().requires_grad_() for table in positions.axes), positions.groups)
    weight = torch.randn(13, positions.width, dtype=torch.float64, requires_grad=True)
    found = [torch.autograd.grad(y.square().sum(), [weight, *positions.axes]) for y in (positions.projected(weight), positions.dense() @ weight.T)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_the_last_axis_runs_fastest() -> None:
    positions = Positions((torch.arange(3.0)[:, None], torch.arange(5.0)[:, None]))
    assert torch.equal(positions.dense(), torch.cartesian_prod(torch.arange(3.0), torch.arange(5.0)))


@pytest.mark.parametrize("number", range(6))
def test_the_first_places_are_the_first_tokens(number: int) -> None:
    positions = grids()[number]
    first = positions.first(4)
    assert first.num_tokens == positions.num_tokens // 7 * 4
    assert torch.equal(first.dense(), positions.dense()[: first.num_tokens])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_fourier_features_are_float32_whatever_the_default_type(dtype: torch.dtype) -> None:
    expected = fourier_axis(11, 7, 101)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = fourier_axis(11, 7, 101)
        dense = FourierPositions((11,), 7, max_resolution=(101,))((11,)).dense()
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == dense.dtype == torch.float32
    assert torch.equal(found, expected) and torch.equal(dense, expected)


def test_fourier_features_are_float32_under_autocast() -> None:
    expected = FourierPositions((5, 3), 4)((7, 2)).dense()
    with torch.autocast("cpu", torch.bfloat16):
        found = FourierPositions((5, 3), 4)((7, 2)).dense()
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_a_grid_without_a_place_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one place"):
        FourierPositions(shape, 2)


def test_a_resolution_with_another_number_of_axes_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"\(5, 3\).*\(7,\)"):
        FourierPositions((5, 3), 2, max_resolution=(7,))


def test_one_place_stands_in_the_middle() -> None:
    assert fourier_axis(1, 3, 7).tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_a_learned_table_gives_its_first_places_and_refuses_more_tokens_than_it_has() -> None:
    table = LearnedPositions(11, 5)
    assert torch.equal(table((7,)).dense(), table.weight[:7]) and torch.equal(table((2, 5)).dense(), table.weight[:10])
    with pytest.raises(ValueError, match=r"13 positions.*11"):
        table((13,))


def test_rotation_is_a_multiplication_of_complex_numbers() -> None:
    x, positions = torch.randn(2, 3, 5, 6), torch.tensor([0.0, 1, 3, 7, 11])
    angles = rotary_angles(positions, 6)
    frequencies = torch.tensor([10_000.0 ** (-2 * i / 6) for i in range(3)])
    turn = torch.polar(torch.ones(5, 3), positions[:, None] * frequencies)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)
    torch.testing.assert_close(rotate(x, angles), expected, rtol=0, atol=1e-6)


def scores(q: Tensor, k: Tensor, at_q: Tensor, at_k: Tensor) -> Tensor:
    turned_q, turned_k = Rotary(rotary_angles(at_q, 6), rotary_angles(at_k, 6))(q, k)
    return turned_q @ turned_k.transpose(-1, -2)


def test_rotated_scores_depend_on_the_difference_of_positions_only() -> None:
    q, k = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 7, 6)
    at_q, at_k = torch.arange(5.0), torch.arange(7.0) * 2
    near, far = scores(q, k, at_q, at_k), scores(q, k, at_q + 13, at_k + 13)
    torch.testing.assert_close(near, far, rtol=0, atol=1e-4)
    assert not torch.allclose(near, scores(q, k, at_q + 13, at_k), atol=1e-2)


def test_rotation_preserves_the_norm_and_lets_the_other_channels_pass() -> None:
    x = torch.randn(2, 3, 5, 11)
    turned = rotate(x, rotary_angles(torch.arange(5.0), 6))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    assert torch.equal(turned[..., 6:], x[..., 6:]) and torch.equal(turned[..., 0, :], x[..., 0, :])
    assert not torch.allclose(turned[..., 1:, :6], x[..., 1:, :6])


def test_rotary_attention_does_not_know_where_the_sequence_starts() -> None:
    layer, x = Attention(12, heads=2), torch.randn(2, 5, 12)
    at = torch.arange(5.0)
    turns = [Rotary(rotary_angles(at + start, 6), rotary_angles(at + start, 6)) for start in (0, 17)]
    here, there = (layer(x, x, rotate=turn) for turn in turns)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-5)
    assert not torch.allclose(here, layer(x, x), atol=1e-4)


def test_rotation_keeps_the_type_of_what_it_turns() -> None:
    x = torch.randn(2, 3, 5, 6, dtype=torch.bfloat16)
    assert rotate(x, rotary_angles(torch.arange(5.0), 6)).dtype == torch.bfloat16


def test_the_highest_frequency_is_half_the_resolution() -> None:
    table = fourier_axis(3, 2, 10)
    expected = [-1, math.sin(-math.pi), math.sin(-5 * math.pi), math.cos(-math.pi), math.cos(-5 * math.pi)]
    torch.testing.assert_close(table[0], torch.tensor(expected), rtol=0, atol=1e-6)
