"""Reading a grid in parts is reading its tokens, keys and values, which are never formed."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import perceiver.tokens
from perceiver import recompute
from perceiver.blocks import CrossBlock
from perceiver.grid_attention import operator, reading
from perceiver.positions import FourierPositions, Positions
from perceiver.soft_weights import record_attention, record_mass
from perceiver.softmax import attend_beside, merge
from perceiver.tokens import Tokens
from tests.builders import randomise, without_shape_checks

BATCH, LATENTS, DIM, CHANNELS, CONSTANT = 3, 7, 10, 4, 5
Segments = dict[str, Tokens]


@pytest.fixture
def in_parts(monkeypatch):
    """A switch: are grids read in parts, however small they are?"""

    def switch(on: bool) -> None:
        monkeypatch.setattr(perceiver.tokens, "LARGE_GRID", 1 if on else 10**9)

    return switch


def grid(
    axes: tuple[int, ...] = (5, 11), *, project: bool = False, constant: bool = False, mask: bool = False, rows: bool = False, dtype=torch.float64
) -> Tokens:
    """Tokens on a grid with learned tables; 18 channels wide where they are projected."""
    batch, m = (2 if rows else BATCH), math.prod(axes)
    fourier = FourierPositions(axes, 2)(axes)
    tables = tuple(nn.Parameter(table.to(dtype)) for table in fourier.axes)
    valid = None
    if mask:
        valid = torch.rand(batch, m) < 0.7
        valid[0] = False  # a row that has the modality, and none of its tokens
    width = CHANNELS + fourier.width + CONSTANT * constant
    return Tokens(
        torch.randn(batch, m, CHANNELS, dtype=dtype, requires_grad=True),
        axes,
        Positions(tables, fourier.groups),
        valid,
        torch.tensor([2, 0]) if rows else None,
        nn.Linear(width, 18, dtype=dtype) if project else None,
        nn.Parameter(torch.randn(CONSTANT, dtype=dtype)) if constant else None,
    )


def width(tokens: Tokens) -> int:
    return tokens.dense().features.shape[-1]


def leaves(tokens: Tokens) -> list[Tensor]:
    """All that a gradient can reach."""
    return [tokens.features, *tokens.positions.axes, *([] if tokens.constant is None else [tokens.constant])] + list(
        tokens.project.parameters() if tokens.project else []
    )


def block(context_dim: int, heads: int = 2, dtype=torch.float64) -> CrossBlock:
    made = CrossBlock(DIM, context_dim, heads=heads, qk_dim=6 * heads, v_dim=4 * heads).to(dtype)
    randomise(made)
    return made


def read(made: nn.Module, x: Tensor, segments: Segments, params: list[Tensor]) -> list[Tensor]:
    """What is read, and the gradients of a random mean of it."""
    out = made(x, segments)
    torch.manual_seed(3)
    found = torch.autograd.grad((out * torch.randn(out.shape, dtype=out.dtype)).sum(), params, allow_unused=True)
    return [out, *(torch.zeros_like(p) if g is None else g for p, g in zip(params, found, strict=True))]


def assert_same(made: CrossBlock, segments: Segments, in_parts, tolerance: float = 1e-11) -> None:
    x = torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64, requires_grad=True)
    # The bias of keys moves all scores of a query alike, so that its gradient is nothing but rounding.
    params = [x, *(p for name, p in made.named_parameters() if name != "attention.to_k.bias")] + [p for t in segments.values() for p in leaves(t)]
    found = []
    for on in (False, True):
        in_parts(on)
        found.append(read(made, x, segments, params))
    for joined, apart in zip(*found, strict=True):
        assert apart.isfinite().all()
        assert (joined - apart).norm() <= tolerance * max(joined.norm(), 1e-3)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("axes", [(5, 11), (2, 3, 7), (13,)])
@pytest.mark.parametrize(("project", "constant", "mask", "rows"), list(itertools.product([False, True], repeat=4)))
def test_a_grid_in_parts_gives_what_its_tokens_give_and_so_do_all_gradients(heads, axes, project, constant, mask, rows, in_parts):
    tokens = grid(axes, project=project, constant=constant, mask=mask, rows=rows)
    assert_same(block(width(tokens), heads), {"there": tokens}, in_parts)


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("axes", [(5, 11), (13,)])
@pytest.mark.parametrize(("project", "norm", "mask"), list(itertools.product([False, True], repeat=3)))
def test_either_order_of_multiplication_gives_the_same(back, axes, project, norm, mask, in_parts, monkeypatch):
    """Places are mapped to keys, or queries taken back to the width of a token; each with queries of their own in each row, and with shared ones."""
    tokens = grid(axes, project=project, constant=True, mask=mask, rows=True)
    made = block(width(tokens), 2)
    if not norm:
        monkeypatch.setattr(made, "_normed", lambda context: context)
    assert_same(made, {"there": tokens}, in_parts)
    monkeypatch.setattr(reading, "_taken_back", lambda grid, linear, *sizes: linear if back else None)
    assert_same(made, {"there": tokens}, in_parts)
    shared = torch.randn(1, LATENTS, DIM, dtype=torch.float64, requires_grad=True)
    params = [shared, *(p for name, p in made.named_parameters() if name != "attention.to_k.bias"), *leaves(tokens)]
    in_parts(True)
    once, each = (read(made, x, {"there": tokens}, params) for x in (shared.expand(BATCH, -1, -1), shared.repeat(BATCH, 1, 1)))
    for one, other in zip(once, each, strict=True):
        assert (one - other).norm() <= 1e-11 * max(other.norm(), 1e-3)


@pytest.mark.parametrize("project", [False, True])
def test_beside_other_modalities_that_not_all_rows_have(project, in_parts):
    first, second = grid(project=project, mask=True, rows=True), grid((3, 13), project=project, rows=True)
    dim = width(first)
    dense = Tokens(torch.randn(1, 13, dim, dtype=torch.float64), (13,), mask=torch.rand(1, 13) < 0.6, rows=torch.tensor([1]))
    for segments in ({"a": first, "b": second}, {"a": first, "b": dense}, {"b": dense, "c": second, "a": first}):
        made = block(dim)
        found = [t for t in (segments.get(name) for name in ("a", "b", "c")) if t is not None and t.positions is not None]
        x = torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64, requires_grad=True)
        params = [x, *(p for name, p in made.named_parameters() if name != "attention.to_k.bias")] + [p for t in found for p in leaves(t)]
        both = []
        for on in (False, True):
            in_parts(on)
            both.append(read(made, x, segments, params))
        for joined, apart in zip(*both, strict=True):
            assert apart.isfinite().all() and (joined - apart).norm() <= 1e-11 * max(joined.norm(), 1e-3)


def test_the_parts_are_really_used(in_parts, monkeypatch):
    """A test of the tests: with the switch on, no key of the grid is formed."""
    tokens = grid(project=True)
    made = block(18)
    lengths: list[int] = []
    made.attention.to_k.register_forward_hook(lambda module, args, output: lengths.append(args[0].shape[1]))
    for on in (True, False):
        in_parts(on)
        made(torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64), {"there": tokens})
    assert lengths == [55]


@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_what_lies_behind_the_mask_reaches_neither_an_output_nor_a_gradient(junk, in_parts):
    in_parts(True)
    clean = grid(project=True, mask=True, dtype=torch.float32)
    made = block(18, dtype=torch.float32)
    x = torch.randn(BATCH, LATENTS, DIM)
    found = []
    for value in (0.0, junk):
        features = clean.features.detach().masked_fill(~clean.mask[..., None], value).requires_grad_()
        tokens = Tokens(features, clean.grid, clean.positions, clean.mask, project=clean.project)
        found.append(read(made, x, {"there": tokens}, [features, *made.parameters(), *clean.project.parameters()]))
    for a, b in zip(*found, strict=True):
        assert b.isfinite().all() and torch.equal(a, b)


def test_a_read_without_any_row_that_has_a_token_is_zero(in_parts):
    in_parts(True)
    tokens = grid(mask=True)
    hidden = Tokens(tokens.features, tokens.grid, tokens.positions, torch.zeros_like(tokens.mask))
    made = block(width(tokens))
    nothing = made.attention(torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64), {"there": hidden})
    assert torch.equal(nothing, made.attention.to_out.bias.expand_as(nothing))


@pytest.mark.parametrize("beside", [False, True])
def test_the_mass_of_each_modality_is_what_the_joined_weights_say(beside, in_parts):
    tokens = grid(project=True, mask=True, rows=True)
    segments = {"a": tokens, "b": grid((3, 7), project=True)}
    if beside:
        segments["c"] = Tokens(torch.randn(BATCH, 13, 18, dtype=torch.float64), (13,))
    made, x = block(18), torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64)
    found = []
    for on in (False, True):
        in_parts(on)
        with record_mass(made) as masses, record_attention(made) as maps:
            made(x, segments)
        found.append((masses[0].mass, maps[0].mass))
    for name in segments:
        for mass in (found[1][0], found[0][1], found[1][1]):
            torch.testing.assert_close(mass[name].double(), found[0][0][name].double(), rtol=0, atol=1e-5)


def test_under_autocast_the_sums_stay_in_float32(in_parts):
    in_parts(True)
    tokens, made, x = grid(project=True, dtype=torch.float32), block(18, dtype=torch.float32), torch.randn(BATCH, LATENTS, DIM)
    expected, seen = made(x, {"there": tokens}), []
    sums = operator.grid_sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perceiver.grid_attention.reading.grid_sums", lambda *t: seen.extend(t[:5]) or sums(*t))
        with torch.autocast("cpu", torch.bfloat16):
            found = made(x, {"there": tokens})
    assert {t.dtype for t in seen} == {torch.float32}
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_sums_in_float32(dtype, in_parts):
    in_parts(True)
    tokens, made, x = grid(project=True, dtype=torch.float32), block(18, dtype=torch.float32), torch.randn(BATCH, LATENTS, DIM)
    expected = made(x, {"there": tokens})
    half = Tokens(tokens.features.to(dtype), tokens.grid, tokens.positions, project=tokens.project.to(dtype))
    found = made.to(dtype)(x.to(dtype), {"there": half})
    assert found.dtype == dtype and (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(("axes", "latents"), [((1, 1), 3), ((1, 13), 3), ((13, 1), 3), ((5, 11), 0)])
def test_one_token_one_row_one_column_and_no_latents(axes, latents, in_parts):
    tokens = grid(axes, project=True)
    made, x, found = block(18), torch.randn(BATCH, latents, DIM, dtype=torch.float64), []
    for on in (False, True):
        in_parts(on)
        found.append(made(x, {"there": tokens}))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-11)


def test_a_grid_that_is_not_as_large_as_its_tables_say_is_refused(in_parts):
    in_parts(True)
    whole = grid(project=True)
    tokens = Tokens(whole.features[:, :50], whole.grid, whole.positions, project=whole.project)
    with without_shape_checks(), pytest.raises(ValueError, match="50 tokens do not fill a grid of 5 x 11 positions"):
        block(18)(torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64), {"there": tokens})


def test_dropout_of_soft_weights_joins_the_tokens(in_parts):
    """Weights that are dropped one by one must be there one by one; in evaluation they need not."""
    in_parts(True)
    tokens = grid(project=True)
    made = CrossBlock(DIM, 18, heads=2, dropout=0.3).double()
    lengths: list[int] = []
    made.attention.to_k.register_forward_hook(lambda module, args, output: lengths.append(args[0].shape[1]))
    x = torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64)
    made.train()(x, {"there": tokens})
    made.eval()(x, {"there": tokens})
    assert lengths == [55]


def test_recomputed_in_the_backward_pass_it_is_the_same(in_parts):
    in_parts(True)
    tokens, made = grid(project=True, mask=True), block(18)
    x = torch.randn(BATCH, LATENTS, DIM, dtype=torch.float64, requires_grad=True)
    params = [x, *made.parameters(), *leaves(tokens)]
    plain, again = read(made, x, {"there": tokens}, params), read(lambda *args: recompute(made, *args), x, {"there": tokens}, params)  # type: ignore[arg-type]
    for one, other in zip(plain, again, strict=True):
        assert torch.equal(one, other)


def test_segments_are_merged_as_if_they_had_been_one():
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 13, 8), torch.randn(2, 3, 13, 7)
    scores = q @ k.transpose(-1, -2) / 8**0.5
    expected = scores.softmax(-1) @ v
    cuts = (slice(0, 4), slice(4, 11), slice(11, 13))
    parts = [(scores[..., cut].softmax(-1) @ v[..., cut, :], scores[..., cut].logsumexp(-1)) for cut in cuts]
    out, lse = merge(parts)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(lse, scores.logsumexp(-1), rtol=0, atol=1e-6)
    beside = attend_beside(q, k[..., cuts[2], :], v[..., cuts[2], :], None, *merge(parts[:2]))
    torch.testing.assert_close(beside, expected, rtol=0, atol=1e-6)


def test_segments_with_nothing_count_for_nothing_when_merged():
    out, lse = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 5)
    nothing = torch.zeros_like(out), torch.full_like(lse, -math.inf)
    leaf = lse.clone().requires_grad_()
    merged, total = merge([nothing, (out, leaf), nothing])
    assert torch.equal(merged, out)
    torch.testing.assert_close(total, lse)
    (merged.sum() + total.sum()).backward()
    assert leaf.grad.isfinite().all()
    empty, none = merge([nothing, nothing])
    assert torch.equal(empty, nothing[0]) and torch.equal(none, nothing[1])
