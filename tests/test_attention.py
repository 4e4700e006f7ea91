"""Attention: what softmax(Q K') V is, and what never reaches it."""

import math

import pytest
import torch
from builders import bounded, gradients, randomise
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PerceiverConfig
from transformers.models.perceiver.modeling_perceiver import PerceiverAttention, PerceiverLayer

from perceiver.attention import Attention, attention_layers
from perceiver.blocks import MLP, CrossBlock, SelfBlock
from perceiver.softmax import attend, segment_mass, soft_weights
from perceiver.tokens import Tokens

NAN, INF = math.nan, math.inf


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(e)) v, written out in float64; zero for a query without a key."""
    q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    if mask is not None:
        weights = weights * mask
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1) @ v


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


@bounded
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 3),
    heads=st.integers(1, 3),
    queries=st.integers(1, 7),
    keys=st.integers(1, 11),
    width=st.integers(1, 17),
    value_width=st.integers(1, 17),
    share=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    per_head=st.booleans(),
    per_query=st.booleans(),
)
def test_attend_is_the_softmax_of_the_scores_times_the_values_and_so_are_its_gradients(
    seed: int, rows: int, heads: int, queries: int, keys: int, width: int, value_width: int, share: float, per_head: bool, per_query: bool
) -> None:
    torch.manual_seed(seed)
    arrays = draw(rows, heads, queries, width), draw(rows, heads, keys, width), draw(rows, heads, keys, value_width)
    mask = torch.rand(rows, heads if per_head else 1, queries if per_query else 1, keys) < share
    mask[0, 0, 0] = False  # a query with nothing to attend to
    out, expected = attend(*arrays, mask), reference(*arrays, mask)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    dead = ~mask.any(-1, keepdim=True).expand(rows, heads, queries, 1)
    assert (out.masked_select(dead) == 0).all()
    weight = torch.randn_like(out)
    for ours, theirs in zip(torch.autograd.grad((out * weight).sum(), arrays), torch.autograd.grad((expected * weight).sum(), arrays), strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("width", [5, 7, 261, 322])
@pytest.mark.parametrize("value_width", [3, 8, 261])
@pytest.mark.parametrize("masked", [False, True])
def test_heads_of_any_width_equal_the_reference(width: int, value_width: int, masked: bool) -> None:
    q, k, v = draw(2, 3, 5, width, dtype=torch.float32), draw(2, 3, 11, width, dtype=torch.float32), draw(2, 3, 11, value_width, dtype=torch.float32)
    mask = torch.rand(2, 1, 1, 11) < 0.5 if masked else None
    out = attend(q, k, v, mask)
    assert out.shape == (2, 3, 5, value_width)
    torch.testing.assert_close(out.double(), reference(q, k, v, mask), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_with_nothing_to_attend_to_reads_exactly_zero_and_its_gradients_are_finite(dtype: torch.dtype) -> None:
    q, k, v = draw(3, 2, 5, 7, dtype=dtype), draw(3, 2, 11, 7, dtype=dtype), draw(3, 2, 11, 13, dtype=dtype)
    mask = torch.ones(3, 1, 1, 11, dtype=torch.bool)
    mask[1] = False
    out = attend(q, k, v, mask)
    assert (out[1] == 0).all() and (out[[0, 2]] != 0).all()
    out.square().sum().backward()
    for x in (q, k, v):
        assert x.grad is not None and x.grad.isfinite().all()
        assert (x.grad[1] == 0).all() and (x.grad[0] != 0).any()


def test_a_row_with_nothing_to_attend_to_gives_the_output_bias_and_finite_gradients_to_every_parameter() -> None:
    layer = Attention(6, 5, heads=3)
    randomise(layer)
    context = torch.randn(2, 7, 5, requires_grad=True)
    mask = torch.tensor([[False] * 7, [True] * 3 + [False] * 4])
    out = layer(torch.randn(2, 3, 6), context, mask)
    assert torch.equal(out[0], layer.to_out.bias.expand(3, 6))
    out.square().sum().backward()
    assert len(gradients(layer)) == 8 and all(g.isfinite().all() for g in gradients(layer).values())
    assert (context.grad[0] == 0).all() and (context.grad[1, 3:] == 0).all() and context.grad.isfinite().all()


@pytest.mark.parametrize("junk", [NAN, INF, -INF])
@pytest.mark.parametrize("queries", [1, 5])
def test_what_lies_behind_a_mask_reaches_neither_an_output_nor_a_gradient(junk: float, queries: int) -> None:
    mask = torch.rand(3, 1, queries, 11) < 0.6
    mask[..., 4:6] = False
    mask[2] = False
    unseen = ~mask.any(-2).expand(3, 2, 11)
    clean = [draw(3, 2, 5, 7), draw(3, 2, 11, 7), draw(3, 2, 11, 13)]
    dirty = [x.detach().clone() for x in clean]
    for x in dirty[1:]:
        x[unseen] = junk
    dirty = [x.requires_grad_() for x in dirty]
    outs = [attend(*arrays, mask.expand(3, 1, 5, 11) if queries == 5 else mask) for arrays in (clean, dirty)]
    assert torch.equal(*outs)
    for out in outs:
        out.square().sum().backward()
    for x, y in zip(clean, dirty, strict=True):
        assert y.grad.isfinite().all() and torch.equal(x.grad, y.grad)
    assert (dirty[1].grad[unseen] == 0).all() and (dirty[2].grad[unseen] == 0).all()


@pytest.mark.parametrize("junk", [NAN, INF, 1e30])
def test_what_lies_behind_the_mask_of_a_context_reaches_neither_an_output_nor_a_gradient(junk: float) -> None:
    layer, x, mask = Attention(6, 5, heads=2), torch.randn(3, 3, 6, requires_grad=True), torch.rand(3, 7) < 0.6
    mask[1] = False
    clean, found = torch.randn(3, 7, 5), []
    for context in (clean, clean.masked_fill(~mask[..., None], junk)):
        layer.zero_grad()
        x.grad = None
        context.requires_grad_()
        out = layer(x, context, mask)
        out.square().sum().backward()
        found.append((out, x.grad, context.grad, *gradients(layer).values()))
    for a, b in zip(*found, strict=True):
        assert b.isfinite().all() and torch.equal(a, b)


def test_what_no_query_may_attend_to_reaches_neither_an_output_nor_a_gradient_with_a_mask_per_query() -> None:
    layer, x = Attention(6, 5, heads=2), torch.randn(2, 3, 6)
    mask = torch.rand(2, 3, 7) < 0.6
    mask[..., 4] = False
    context = torch.randn(2, 7, 5)
    context[:, 4] = NAN
    out = layer(x, context, mask)
    assert out.isfinite().all()
    out.square().sum().backward()
    assert all(g.isfinite().all() for g in gradients(layer).values())


def test_a_masked_token_is_as_good_as_absent() -> None:
    layer, x, context = Attention(6, 5, heads=3).double(), draw(2, 3, 6), draw(2, 7, 5)
    mask = torch.tensor([True, False, True, True, False, False, True])
    masked, absent = layer(x, context, mask.expand(2, -1)), layer(x, context[:, mask])
    torch.testing.assert_close(masked, absent, rtol=0, atol=1e-14)


def test_queries_and_keys_have_a_width_of_their_own_and_values_too() -> None:
    layer = Attention(11, 5, heads=2, qk_dim=6, v_dim=14)
    assert [tuple(m.weight.shape) for m in (layer.to_q, layer.to_k, layer.to_v, layer.to_out)] == [(6, 11), (6, 5), (14, 5), (11, 14)]
    x, context = draw(2, 3, 11), draw(2, 7, 5)
    layer = layer.double()
    heads = [t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (layer.to_q(x), layer.to_k(context), layer.to_v(context))]
    expected = layer.to_out(reference(*heads).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x, context), expected, rtol=0, atol=1e-12)


def test_values_are_as_wide_as_queries_and_keys_unless_told() -> None:
    layer = Attention(11, 5, heads=3, qk_dim=9)
    assert layer.to_v.out_features == 9 and layer.to_out.out_features == 11


@pytest.mark.parametrize("masked", [False, True])
def test_without_a_single_key_attention_reads_zero(masked: bool) -> None:
    mask = torch.ones(2, 1, 1, 0, dtype=torch.bool) if masked else None
    out = attend(torch.randn(2, 3, 5, 7), torch.randn(2, 3, 0, 7), torch.randn(2, 3, 0, 11), mask)
    assert out.shape == (2, 3, 5, 11) and (out == 0).all()
    layer = Attention(6, 5, heads=2)
    randomise(layer)
    assert torch.equal(layer(torch.randn(2, 3, 6), torch.randn(2, 0, 5)), layer.to_out.bias.expand(2, 3, 6))


def test_with_a_mask_per_query_each_query_reads_what_it_may_see() -> None:
    layer, x, context = Attention(6, 5, heads=2).double(), draw(2, 3, 6), draw(2, 7, 5)
    mask = torch.rand(2, 3, 7) < 0.5
    mask[:, :, 0] = True
    out = layer(x, context, mask)
    for query in range(3):
        alone = layer(x[:, query : query + 1], context, mask[:, query])
        torch.testing.assert_close(out[:, query : query + 1], alone, rtol=0, atol=1e-14)


def test_under_a_causal_mask_no_token_hears_of_a_later_one() -> None:
    layer, x = Attention(6, heads=3), torch.randn(2, 7, 6)
    causal = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, -1, -1)
    before = layer(x, x, causal)
    x[:, 4:] += 1
    after = layer(x, x, causal)
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.equal(before[:, 4:], after[:, 4:])


def two_segments(dtype: torch.dtype = torch.float32) -> dict[str, Tokens]:
    """Rows 0, 2, 3 of four have the first segment, rows 1, 3 the second, which has a mask."""
    mask = torch.tensor([[True, True, False, True, False], [True, False, False, False, True]])
    return {
        "a": Tokens(torch.randn(3, 7, 5, dtype=dtype), (7,), rows=torch.tensor([0, 2, 3])),
        "b": Tokens(torch.randn(2, 5, 5, dtype=dtype), (5,), mask=mask, rows=torch.tensor([1, 3])),
    }


def test_segments_equal_one_tensor_of_all_tokens_with_a_mask() -> None:
    layer, x, segments = Attention(6, 5, heads=2).double(), draw(4, 3, 6), two_segments(torch.float64)
    whole = torch.cat([t.to_batch(t.features, 4) for t in segments.values()], 1)
    mask = torch.cat([t.attendable(4) for t in segments.values()], 1)
    torch.testing.assert_close(layer(x, segments), layer(x, whole, mask), rtol=0, atol=1e-12)


def test_a_cross_block_over_segments_equals_one_over_a_tensor_of_all_tokens() -> None:
    block, x, segments = CrossBlock(6, 5, heads=2).double(), draw(4, 3, 6), two_segments(torch.float64)
    randomise(block)
    whole = torch.cat([t.to_batch(t.features, 4) for t in segments.values()], 1)
    mask = torch.cat([t.attendable(4) for t in segments.values()], 1)
    torch.testing.assert_close(block(x, segments), block(x, whole, mask), rtol=0, atol=1e-10)


def test_a_row_without_a_segment_does_not_depend_on_it_by_a_single_bit() -> None:
    layer, x, segments = Attention(6, 5, heads=2), torch.randn(4, 3, 6), two_segments()
    before = layer(x, segments)
    other = {**segments, "b": Tokens(torch.randn(2, 5, 5) * 1e20, (5,), mask=segments["b"].mask, rows=segments["b"].rows)}
    after = layer(x, other)
    assert torch.equal(before[[0, 2]], after[[0, 2]]) and not torch.equal(before[[1, 3]], after[[1, 3]])
    only = layer(x[[0, 2]], Tokens(segments["a"].features[:2], (7,)).features)
    torch.testing.assert_close(before[[0, 2]], only, rtol=0, atol=1e-5)


def test_a_row_without_any_segment_reads_the_output_bias() -> None:
    layer, segments = Attention(6, 5, heads=2), two_segments()
    randomise(layer)
    out = layer(torch.randn(4, 3, 6), {"b": segments["b"]})
    assert torch.equal(out[[0, 2]], layer.to_out.bias.expand(2, 3, 6))


def test_soft_weights_times_values_is_what_attend_gives() -> None:
    q, k, v = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 11, 7), torch.randn(2, 3, 11, 13)
    mask = torch.rand(2, 1, 5, 11) < 0.5
    mask[0, 0, 2] = False
    for m in (None, mask):
        torch.testing.assert_close(soft_weights(q, k, m) @ v, attend(q, k, v, m), rtol=0, atol=1e-5)
    assert (soft_weights(q, k, mask)[0, :, 2] == 0).all() and (soft_weights(q, k, mask)[~mask.expand(2, 3, 5, 11)] == 0).all()


@pytest.mark.parametrize("sizes", [[11], [2, 9], [3, 0, 1, 7], [1] * 11, [2, 1, 1, 1, 0, 1, 5]])
@pytest.mark.parametrize("width", [3, 5])
def test_the_mass_of_a_segment_is_the_sum_of_its_soft_weights(sizes: list[int], width: int) -> None:
    q, k = torch.randn(2, 3, 5, width), torch.randn(2, 3, 11, width)
    mask = torch.rand(2, 1, 1, 11) < 0.5
    mask[0] = False
    mask[1, ..., 0] = True
    for m in (None, mask):
        mass = segment_mass(q, k, sizes, m)
        expected = torch.stack([part.sum(-1) for part in soft_weights(q, k, m).split(sizes, -1)], -1)
        torch.testing.assert_close(mass, expected, rtol=0, atol=1e-6)
        alive = torch.ones(2) if m is None else m.any(-1).flatten().float()
        torch.testing.assert_close(mass.sum(-1), alive[:, None, None].expand(2, 3, 5), rtol=0, atol=1e-6)


def test_soft_weights_and_masses_are_float32_under_autocast() -> None:
    q, k = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 11, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = soft_weights(q, k), segment_mass(q, k, [4, 7])
    assert torch.equal(found[0], soft_weights(q, k)) and torch.equal(found[1], segment_mass(q, k, [4, 7]))


@pytest.mark.parametrize(("options", "message"), [({}, r"qk_dim=7.*heads=3"), ({"qk_dim": 6, "v_dim": 11}, r"v_dim=11.*heads=3")])
def test_heads_that_do_not_divide_a_width_are_refused_with_both_numbers(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attention(7, heads=3, **options)


def test_soft_weights_are_dropped_in_training_only() -> None:
    layer, x, context = Attention(6, 5, heads=2, dropout=0.5), torch.randn(2, 3, 6), torch.randn(2, 7, 5)
    assert not torch.equal(layer(x, context), layer(x, context))
    layer.eval()
    plain = Attention(6, 5, heads=2)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x, context), plain(x, context))


def test_a_layer_name_that_no_model_has_is_refused_with_the_names_it_has() -> None:
    model = nn.ModuleDict({"first": Attention(6, heads=2), "second": SelfBlock(6, heads=3)})
    with pytest.raises(ValueError, match=r"'third'.*first, second\.attention"):
        list(attention_layers(model, ("third",)))
    assert [name for name, _ in attention_layers(model, ("second",))] == ["second.attention"]


class Zeros(nn.Module):
    """No query residual."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


OURS_BY_THEIRS = {
    "attention.self.layernorm1": "norm_x",
    "attention.self.layernorm2": "norm_context",
    "attention.self.query": "attention.to_q",
    "attention.self.key": "attention.to_k",
    "attention.self.value": "attention.to_v",
    "attention.output.dense": "attention.to_out",
    "layernorm": "norm_mlp",
    "mlp.dense1": "mlp.0",
    "mlp.dense2": "mlp.2",
}


def copy_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Random weights for the published layer, and the same for ours."""
    randomise(theirs)
    state = {}
    for name, value in theirs.state_dict().items():
        module, _, kind = name.rpartition(".")
        state[f"{OURS_BY_THEIRS[module]}.{kind}"] = value
    ours.load_state_dict(state)


@pytest.mark.parametrize(
    ("heads", "qk", "v", "widening", "residual"), [(1, 10, 10, 1, True), (2, 6, 14, 3, True), (1, 13, 7, 4, True), (3, 6, 9, 2, False)]
)
def test_a_cross_block_equals_the_published_cross_attention_layer(heads: int, qk: int, v: int, widening: int, residual: bool) -> None:
    theirs = PerceiverLayer(
        PerceiverConfig(),
        is_cross_attention=True,
        qk_channels=qk,
        v_channels=v,
        num_heads=heads,
        q_dim=10,
        kv_dim=7,
        widening_factor=widening,
        use_query_residual=residual,
    )
    skip = None if residual else Zeros()
    ours = CrossBlock(10, 7, heads=heads, qk_dim=qk, v_dim=v, mlp=lambda dim: MLP(dim, widening=widening), skip=skip)
    theirs, ours = theirs.double().eval(), ours.double().eval()
    copy_weights(theirs, ours)
    x, context = draw(2, 3, 10), draw(2, 11, 7)
    mask = torch.rand(2, 11) < 0.6
    mask[:, 0] = True
    torch.testing.assert_close(ours(x, context), theirs(x, inputs=context)[0], rtol=0, atol=1e-10)
    added = torch.zeros(2, 1, 1, 11, dtype=torch.float64).masked_fill(~mask[:, None, None], torch.finfo(torch.float64).min)
    torch.testing.assert_close(ours(x, context, mask), theirs(x, inputs=context, inputs_mask=added)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("heads", "qk", "widening"), [(1, 10, 1), (2, 14, 3), (5, 15, 4)])
def test_a_self_block_equals_the_published_self_attention_layer(heads: int, qk: int, widening: int) -> None:
    theirs = PerceiverLayer(PerceiverConfig(), qk_channels=qk, v_channels=10, num_heads=heads, q_dim=10, kv_dim=10, widening_factor=widening)
    ours = SelfBlock(10, heads=heads, qk_dim=qk, v_dim=10, mlp=lambda dim: MLP(dim, widening=widening))
    theirs, ours = theirs.double().eval(), ours.double().eval()
    copy_weights(theirs, ours)
    x = draw(3, 7, 10)
    torch.testing.assert_close(ours(x), theirs(x)[0], rtol=0, atol=1e-10)


def test_an_attention_layer_equals_the_published_one_behind_its_norms() -> None:
    theirs = PerceiverAttention(
        PerceiverConfig(), is_cross_attention=True, qk_channels=6, v_channels=14, num_heads=2, q_dim=11, kv_dim=5, use_query_residual=False
    )
    theirs = theirs.double().eval()
    randomise(theirs)
    ours = Attention(11, 5, heads=2, qk_dim=6, v_dim=14).double()
    published = (theirs.self.query, theirs.self.key, theirs.self.value, theirs.output.dense)
    for mine, yours in zip((ours.to_q, ours.to_k, ours.to_v, ours.to_out), published, strict=True):
        mine.load_state_dict(yours.state_dict())
    x, context = draw(2, 3, 11), draw(2, 7, 5)
    out = ours(theirs.self.layernorm1(x), theirs.self.layernorm2(context))
    torch.testing.assert_close(out, theirs(x, inputs=context)[0], rtol=0, atol=1e-10)
