"""Statistics of attention: known answers on layers whose weights are known, and what must not change them."""

import math

import pytest
import torch
from torch import nn

from perceiver import Attention, CrossBlock, Tokens
from perceiver.explain.attention import passage
from perceiver.explain.attention.passage import Weighed
from perceiver.explain.attention.statistics import apart, coverage, entropy, spectral_norms, statistics, strengths, told_by_presence
from perceiver.soft_weights import Call

HEADS, WIDTH, QUERIES, KEYS, ROWS = 2, 14, 3, 7, 5


def call(layer: Attention, x: torch.Tensor, **segments: Tokens) -> Weighed:
    return Weighed(Call("model.encoder.cross.0.attention", layer, x, segments, None, None, layer(x, segments)))


def tokens(features: torch.Tensor, mask: torch.Tensor | None = None) -> Tokens:
    return Tokens(features, (features.shape[1],), mask=mask)


def blind(layer: Attention) -> Attention:
    """Gives each key the same weight."""
    nn.init.zeros_(layer.to_q.weight)
    nn.init.zeros_(layer.to_q.bias)
    return layer


def pointing() -> tuple[Attention, torch.Tensor, torch.Tensor]:
    """A layer in which query i attends to key i and no other, in each head."""
    layer = Attention(WIDTH, WIDTH, heads=HEADS)
    with torch.no_grad():
        for linear in (layer.to_q, layer.to_k):
            linear.bias.zero_()
            linear.weight.copy_(30 * torch.eye(KEYS).repeat(HEADS, HEADS) / HEADS)
    keys = torch.eye(KEYS).repeat(1, 2).expand(ROWS, -1, -1).clone()
    return layer, keys[:, :QUERIES].clone(), keys


def test_uniform_attention_has_entropy_one_and_attends_to_all_keys():
    found = statistics(call(blind(Attention(WIDTH, WIDTH, heads=HEADS)), torch.randn(ROWS, QUERIES, WIDTH), a=tokens(torch.randn(ROWS, KEYS, WIDTH))))
    torch.testing.assert_close(found.sharpness, torch.ones(ROWS, HEADS, QUERIES))
    torch.testing.assert_close(found.effective, torch.full((ROWS, HEADS, QUERIES), float(KEYS)))
    torch.testing.assert_close(coverage(found), torch.ones(ROWS))
    torch.testing.assert_close(found.query_diversity, torch.zeros(ROWS, HEADS), atol=1e-6, rtol=0)
    assert found.input_dependence is not None and float(found.input_dependence.abs().max()) < 1e-6
    assert found.head_diversity is not None and float(found.head_diversity.abs().max()) < 1e-6


def test_one_hot_attention_has_entropy_zero_and_each_query_looks_elsewhere():
    layer, x, keys = pointing()
    found = statistics(call(layer, x, a=tokens(keys)))
    torch.testing.assert_close(found.sharpness, torch.zeros(ROWS, HEADS, QUERIES), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.effective, torch.ones(ROWS, HEADS, QUERIES))
    torch.testing.assert_close(coverage(found), torch.full((ROWS,), QUERIES / KEYS))
    torch.testing.assert_close(found.query_diversity, torch.ones(ROWS, HEADS))


def test_rows_that_are_attended_to_at_different_keys_depend_on_the_input_wholly():
    layer, _, keys = pointing()
    x = torch.eye(KEYS)[:ROWS, None].repeat(1, 1, 2)  # row r asks for key r
    found = statistics(call(layer, x, a=tokens(keys)))
    assert found.input_dependence is not None
    torch.testing.assert_close(found.input_dependence, torch.ones(ROWS, HEADS, 1))


def present(rows: int) -> torch.Tensor:
    """Which keys some rows have: each about half of them, and one at least."""
    found = torch.rand(rows, KEYS) < 0.5
    found[:, 0] |= ~found.any(1)
    return found


def test_what_padding_and_absence_tell_of_a_row_is_told_apart_from_what_attention_does():
    valid = present(ROWS)
    found = statistics(
        call(blind(Attention(WIDTH, WIDTH, heads=HEADS)), torch.randn(ROWS, QUERIES, WIDTH), a=tokens(torch.randn(ROWS, KEYS, WIDTH), valid))
    )
    assert float(found.input_dependence.mean()) > 0.05
    torch.testing.assert_close(found.input_dependence, found.by_presence)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_weights_that_are_the_same_but_for_what_a_row_lacks_are_found_to_be_so(spread):
    valid = present(31)
    valid[3] = False  # a row that lacks all tells nothing
    one = (spread * torch.randn(HEADS, QUERIES, KEYS)).exp()
    weights = one * valid[:, None, None]
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)
    found = strengths(weights, valid)
    torch.testing.assert_close(found / found.sum(-1, keepdim=True), one / one.sum(-1, keepdim=True), rtol=0.01, atol=0)
    told = told_by_presence(weights, valid)
    torch.testing.assert_close(told, apart(weights, entropy(weights)), rtol=0, atol=1e-3)
    assert float(told[3].abs().max()) == 0 and float(told.mean()) > 0.05


def test_where_all_rows_have_the_same_keys_presence_tells_nothing():
    weights = torch.randn(ROWS, HEADS, QUERIES, KEYS).softmax(-1)
    valid = torch.ones(ROWS, KEYS, dtype=torch.bool)
    assert float(told_by_presence(weights, valid).abs().max()) == 0 and float(apart(weights, entropy(weights)).mean()) > 0.05
    found = strengths(weights, valid)
    torch.testing.assert_close(found / found.sum(-1, keepdim=True), weights.mean(0))


def test_how_far_rows_are_from_their_mean_is_the_entropy_of_the_mean_less_the_mean_entropy():
    weights = torch.randn(ROWS, HEADS, QUERIES, KEYS).softmax(-1)
    expected = (entropy(weights.mean(0)) - entropy(weights).mean(0)) / math.log(ROWS)
    torch.testing.assert_close(apart(weights, entropy(weights)).mean(0), expected)


@pytest.mark.parametrize("change", ["permuted", "padded", "split"])
def test_neither_the_order_of_keys_nor_padding_nor_segments_change_them(change):
    layer, x, keys = Attention(WIDTH, WIDTH, heads=HEADS), torch.randn(ROWS, QUERIES, WIDTH), torch.randn(ROWS, KEYS, WIDTH)
    nn.init.normal_(layer.to_q.weight, std=1.0)
    before = statistics(call(layer, x, a=tokens(keys)))
    if change == "permuted":
        after = statistics(call(layer, x, a=tokens(keys[:, torch.randperm(KEYS)])))
    elif change == "padded":
        mask = torch.arange(KEYS + 4).expand(ROWS, -1) < KEYS
        after = statistics(call(layer, x, a=tokens(torch.cat([keys, torch.full((ROWS, 4, WIDTH), 1e6)], 1), mask)))
    else:
        after = statistics(call(layer, x, a=tokens(keys[:, :3]), b=tokens(keys[:, 3:])))
        torch.testing.assert_close(after.mass["a"] + after.mass["b"], before.mass["a"])
    for name in ("sharpness", "effective", "input_dependence", "query_diversity", "head_diversity", "largest_logit"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), msg=name)
    torch.testing.assert_close(coverage(after), coverage(before))


def test_a_row_with_one_key_or_none_has_no_entropy_rather_than_zero():
    mask = torch.arange(KEYS).expand(2, -1) < torch.tensor([[1], [0]])
    found = statistics(call(Attention(WIDTH, WIDTH, heads=HEADS), torch.randn(2, QUERIES, WIDTH), a=tokens(torch.randn(2, KEYS, WIDTH), mask)))
    assert found.sharpness.isnan().all() and found.effective.isfinite().all() and found.carried.isfinite().all()


def test_entropy_counts_each_small_weight_for_what_it_is():
    many = torch.full((100_003,), 1 / 100_003)
    assert float(entropy(many)) == pytest.approx(math.log(100_003), rel=1e-5)


def test_weights_of_some_queries_at_a_time_give_the_same_as_all_at_once(monkeypatch):
    layer, x, segment = Attention(WIDTH, WIDTH, heads=HEADS), torch.randn(ROWS, 11, WIDTH), tokens(torch.randn(ROWS, KEYS, WIDTH))
    whole = statistics(call(layer, x, a=segment))
    monkeypatch.setattr(passage, "NUMBERS", ROWS * HEADS * KEYS * 3)
    weighed = call(layer, x, a=segment)
    assert [some.stop - some.start for some, _ in weighed.chunks()] == [3, 3, 3, 2]
    chunked = statistics(weighed)
    for name in ("sharpness", "received", "input_dependence", "query_diversity", "head_diversity", "largest_logit"):
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name), msg=name)


def test_a_key_that_carries_nothing_has_no_length():
    layer = Attention(WIDTH, WIDTH, heads=HEADS)
    nn.init.zeros_(layer.to_v.bias)
    keys = torch.randn(ROWS, KEYS, WIDTH)
    keys[:, 2] = 0
    carried = statistics(call(layer, torch.randn(ROWS, QUERIES, WIDTH), a=tokens(keys))).carried
    torch.testing.assert_close(carried[:, 2], torch.zeros(ROWS))
    torch.testing.assert_close(carried.mean(1), torch.ones(ROWS))


def test_the_spectral_norm_is_that_of_the_product_of_the_two_maps():
    layer = Attention(WIDTH, 11, heads=HEADS, qk_dim=6)
    q, k = layer.to_q.weight.unflatten(0, (HEADS, -1)), layer.to_k.weight.unflatten(0, (HEADS, -1))
    expected = torch.linalg.matrix_norm(k.transpose(1, 2) @ q, ord=2) * 3**-0.5
    torch.testing.assert_close(spectral_norms(layer), expected.detach())


def test_only_the_first_rows_are_counted_when_so_asked():
    layer, x, keys = Attention(WIDTH, WIDTH, heads=HEADS), torch.randn(ROWS, QUERIES, WIDTH), torch.randn(ROWS, KEYS, WIDTH)
    some = statistics(call(layer, x, a=tokens(keys)), 3)
    alone = statistics(call(layer, x[:3], a=tokens(keys[:3])))
    for name in ("sharpness", "received", "input_dependence", "by_presence", "carried"):
        torch.testing.assert_close(getattr(some, name), getattr(alone, name), msg=name)


def test_the_kind_of_a_call_is_told_by_what_it_reads():
    block = CrossBlock(WIDTH, 11)
    x = torch.randn(ROWS, QUERIES, WIDTH)
    latents = torch.randn(ROWS, 11, 11)
    y = torch.randn(ROWS, QUERIES, WIDTH)
    own = Attention(WIDTH, heads=HEADS)
    assert passage.kind_of(Call("", block.attention, x, {"a": tokens(latents)}, None, None, x)) == "read"
    assert passage.kind_of(Call("", block.attention, x, latents, None, None, x)) == "answer"
    assert passage.kind_of(Call("", own, y, y, None, None, y)) == "self"
