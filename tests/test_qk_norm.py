"""Normed attention: the length of queries and keys does not matter, scores are bounded, and the rest is as in attention without the norm."""

import math

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from perceiver.attention import Attention
from perceiver.blocks import CrossBlock, SelfBlock
from perceiver.description import build, describe
from perceiver.positions import Positions, Rotary, rotary_angles, rotate
from perceiver.qk_norm import EPS, NormedAttention
from perceiver.soft_weights import each_head, record_attention
from perceiver.tasks import param_groups
from perceiver.tokens import Tokens

ROWS, QUERIES, KEYS, DIM, WIDTH, HEADS = 5, 3, 7, 12, 11, 2


def attention(**options: int) -> NormedAttention:
    """With scales that differ from channel to channel, as learned ones do."""
    found = NormedAttention(DIM, WIDTH, heads=HEADS, **options)
    for norm in (found.norm_q, found.norm_k):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return found


def weights(layer: Attention, x: Tensor, context: object, mask: Tensor | None = None) -> Tensor:
    with record_attention(nn.ModuleDict({"a": layer}), over_heads=each_head) as maps:
        layer(x, context, mask)
    return torch.cat([one.flatten(3) for one in maps[0].weights.values()], -1)


def normed(x: Tensor, scale: Tensor) -> Tensor:
    """By hand."""
    return scale * x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


@pytest.mark.parametrize("qk_dim", [DIM, 10])
def test_scores_are_of_queries_and_keys_whose_mean_square_is_one_times_a_scale(qk_dim: int) -> None:
    layer, x, context = attention(qk_dim=qk_dim), torch.randn(ROWS, QUERIES, DIM), torch.randn(ROWS, KEYS, WIDTH)
    q, k = (linear(t).unflatten(-1, (HEADS, -1)).transpose(1, 2) for linear, t in ((layer.to_q, x), (layer.to_k, context)))
    q, k = normed(q, layer.norm_q.weight), normed(k, layer.norm_k.weight)
    expected = (q @ k.transpose(-1, -2) * (qk_dim // HEADS) ** -0.5).softmax(-1)
    assert torch.allclose(weights(layer, x, context), expected, atol=1e-5)


def test_the_length_of_what_asks_and_of_what_is_asked_does_not_matter() -> None:
    layer, x, context = attention(), torch.randn(ROWS, QUERIES, DIM), torch.randn(ROWS, KEYS, WIDTH)
    plain = Attention(DIM, WIDTH, heads=HEADS)
    assert torch.allclose(weights(layer, 100 * x, 100 * context), weights(layer, x, context), atol=1e-4)
    assert weights(plain, 100 * x, 100 * context).amax(-1).mean() > 0.99  # collapsed onto one key
    assert weights(layer, 100 * x, 100 * context).amax(-1).max() < 0.99


def test_no_score_is_larger_than_the_root_of_the_width_times_the_scales() -> None:
    layer = attention()
    q, k, _, _ = layer.project(1e4 * torch.randn(ROWS, QUERIES, DIM), 1e4 * torch.randn(ROWS, KEYS, WIDTH))
    bound = (DIM // HEADS) ** 0.5 * float(layer.norm_q.weight.max().detach() * layer.norm_k.weight.max().detach())
    scores = q @ k.transpose(-1, -2) * (DIM // HEADS) ** -0.5
    assert float(scores.detach().abs().max()) <= bound * (1 + 1e-5)


def test_a_large_grid_is_read_as_its_joined_tokens_are() -> None:
    positions, norm = Positions((torch.randn(32, 3), torch.randn(37, 3))), nn.LayerNorm(WIDTH)
    grid = Tokens(torch.randn(ROWS, 32 * 37, 2), (32, 37), positions, project=nn.Linear(8, WIDTH), norm=norm)
    layer, x = attention(), torch.randn(ROWS, QUERIES, DIM)
    assert grid.in_parts
    assert torch.allclose(layer(x, {"picture": grid}), layer(x, grid.dense().features), atol=1e-5)
    mass = layer.mass(x, {"picture": grid})["picture"]
    assert torch.allclose(mass, torch.ones(ROWS, HEADS, QUERIES), atol=1e-5)


def test_what_is_masked_or_absent_reaches_nothing_and_all_stays_finite() -> None:
    layer, x = attention(), torch.randn(ROWS, QUERIES, DIM, requires_grad=True)
    mask = torch.rand(ROWS, KEYS) < 0.5
    mask[1] = False
    features = torch.randn(ROWS, KEYS, WIDTH)
    found = []
    for junk in (0.0, math.nan):
        context = features.masked_fill(~mask[..., None], junk)
        sound = Tokens(context, (KEYS,), mask=mask)
        picture = Tokens(features[:2], (KEYS,), rows=torch.tensor([0, 3]))
        layer.zero_grad()
        out = layer(x, {"sound": sound, "picture": picture})
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)])
    assert all(one.isfinite().all() and torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.equal(found[0][0][1], layer.to_out.bias.detach().expand(QUERIES, -1))  # a row that has nothing reads nothing


def test_queries_and_keys_are_turned_after_they_are_normed() -> None:
    layer, x = NormedAttention(DIM, heads=HEADS), torch.randn(ROWS, KEYS, DIM)
    nn.init.uniform_(layer.norm_k.weight, 0.5, 1.5)
    angles = rotary_angles(torch.arange(KEYS).float(), DIM // HEADS)
    q, k, _, _ = layer.project(x, x)
    turned_q, turned_k, _, _ = layer.project(x, x, rotate=Rotary(angles, angles))
    assert torch.allclose(turned_q, rotate(q, angles)) and torch.allclose(turned_k, rotate(k, angles))


def test_queries_that_all_rows_share_are_normed_once_with_the_same_result() -> None:
    layer, array, context = attention(), torch.randn(QUERIES, DIM), torch.randn(ROWS, KEYS, WIDTH)
    shared = array.expand(ROWS, -1, -1)
    assert layer.project(shared, context)[0].stride(0) == 0
    assert torch.allclose(layer(shared, context), layer(shared.clone(), context), atol=1e-6)


def test_scales_are_learned_and_do_not_decay() -> None:
    block = SelfBlock(DIM, heads=HEADS, attention=NormedAttention)
    block(torch.randn(ROWS, QUERIES, DIM)).square().sum().backward()
    decays = {id(p) for group in param_groups(block, 0.1) if group["weight_decay"] for p in group["params"]}
    for norm in (block.attention.norm_q, block.attention.norm_k):
        assert norm.weight.grad.abs().min() > 0 and id(norm.weight) not in decays


def test_it_is_given_to_a_block_by_its_name_and_saved_with_it() -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "block")
    options = {"dim": DIM, "context_dim": WIDTH, "heads": HEADS, "attention": "perceiver.qk_norm.NormedAttention"}
    built = parser.instantiate(parser.parse_object({"block": {"class_path": "perceiver.CrossBlock", "init_args": options}})).block
    again = build(describe(built))
    assert type(built.attention) is type(again.attention) is NormedAttention and isinstance(again, CrossBlock)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="qk_dim=12 does not divide into heads=5"):
        NormedAttention(DIM, heads=5)
