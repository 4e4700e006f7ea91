"""Encoder: which blocks share weights, what latents may depend on, and how blocks may be run."""

import copy
from functools import partial

import pytest
import torch
from builders import (
    CLASSES,
    CONTEXT_DIM,
    DIM,
    LATENTS,
    MODELS,
    OUTPUTS,
    compact_batch,
    compiles,
    gradients,
    presence_table,
    raw_entries,
    small_encoder,
    small_perceiver_io,
)
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.blocks import CrossBlock, SelfBlock, recompute
from perceiver.encoder import Encoder, LatentArray
from perceiver.positions import Positions
from perceiver.soft_weights import record_mass
from perceiver.tokens import Tokens


def two_segments(rows: int = 4, dtype: torch.dtype = torch.float32) -> dict[str, Tokens]:
    """All rows have the first segment, rows 3 and 1 the second, which has a mask."""
    mask = torch.tensor([[True, True, False, True, False], [True, False, False, False, True]])
    return {
        "a": Tokens(torch.randn(rows, 7, CONTEXT_DIM, dtype=dtype), (7,)),
        "b": Tokens(torch.randn(2, 5, CONTEXT_DIM, dtype=dtype), (5,), mask=mask, rows=torch.tensor([3, 1])),
    }


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("cross_attend", "self_attend", "num_layers", "reads", "stacks"),
    [
        ((0,), (0,), 2, 1, 1),
        ((0, None, None), (0, 0, 0), 3, 1, 1),
        ((0, 1, 1), (0, 0, 0), 2, 2, 1),
        ((0, 0, 0, 0), (0, 0, 0, 0), 1, 1, 1),
        ((0, 1, 2), (0, 1, 2), 2, 3, 3),
        ((0, None, 1, None), (0, 1, 0, 1), 1, 2, 2),
        ((0,), (0,), 0, 1, 1),
    ],
)
def test_a_shared_block_costs_no_parameters(
    cross_attend: tuple[int | None, ...], self_attend: tuple[int, ...], num_layers: int, reads: int, stacks: int
) -> None:
    encoder = small_encoder(cross_attend=cross_attend, self_attend=self_attend, num_layers=num_layers)
    one_read, one_layer = count(CrossBlock(DIM, CONTEXT_DIM)), count(SelfBlock(DIM, heads=2))
    assert count(encoder) == LATENTS * DIM + reads * one_read + stacks * num_layers * one_layer


def test_a_block_has_the_parameters_that_its_widths_say() -> None:
    dim, context, qk, v, wide = 11, 7, 6, 10, 3 * 11
    block = CrossBlock(dim, context, heads=2, qk_dim=qk, v_dim=v, mlp=lambda d: nn.Sequential(nn.Linear(d, 3 * d), nn.GELU(), nn.Linear(3 * d, d)))
    norms = 2 * dim + 2 * context + 2 * dim
    attention = (dim + 1) * qk + (context + 1) * qk + (context + 1) * v + (v + 1) * dim
    assert count(block) == norms + attention + (dim + 1) * wide + (wide + 1) * dim


def test_looped_blocks_equal_an_unrolled_copy_and_gather_its_gradients() -> None:
    looped = small_encoder(cross_attend=(0, 0, None), self_attend=(0, 0, 0), num_layers=2).double()
    unrolled = small_encoder(cross_attend=(0, 1, None), self_attend=(0, 1, 2), num_layers=2).double()
    unrolled.latents.load_state_dict(looped.latents.state_dict())
    for block in unrolled.cross:
        block.load_state_dict(looped.cross[0].state_dict())
    for stack in unrolled.stacks:
        stack.load_state_dict(looped.stacks[0].state_dict())
    segments = {"a": Tokens(torch.randn(2, 7, CONTEXT_DIM, dtype=torch.float64), (7,))}
    outs = [encoder(segments, 2) for encoder in (looped, unrolled)]
    assert torch.equal(*outs)
    for out in outs:
        out.square().sum().backward()
    for shared, copies in ((looped.cross[0], unrolled.cross), (looped.stacks[0], unrolled.stacks)):
        for name, grad in gradients(shared).items():
            torch.testing.assert_close(grad, sum(gradients(c)[name] for c in copies), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("projected", [False, True])
def test_permuting_tokens_with_their_positions_leaves_the_latents_alone(projected: bool) -> None:
    encoder, order, rows = small_encoder().double(), torch.randperm(13), torch.tensor([2, 0])
    features, table = torch.randn(2, 13, 6, dtype=torch.float64), torch.randn(13, 5, dtype=torch.float64)
    mask = torch.rand(2, 13) < 0.7
    project = nn.Linear(11, CONTEXT_DIM, dtype=torch.float64) if projected else None
    there = Tokens(features, (13,), Positions((table,)), mask, rows, project)
    here = Tokens(features[:, order], (13,), Positions((table[order],)), mask[:, order], rows, project)
    latents, permuted = encoder({"a": there}, 3), encoder({"a": here}, 3)
    torch.testing.assert_close(latents, permuted, rtol=0, atol=1e-11)
    without = encoder({"a": Tokens(features[:, order], (13,), Positions((table,)), mask[:, order], rows, project)}, 3)
    assert not torch.allclose(latents, without, atol=1e-4)


def test_the_order_of_segments_changes_nothing_but_rounding() -> None:
    encoder, segments = small_encoder().double(), two_segments(dtype=torch.float64)
    turned = dict(reversed(segments.items()))
    torch.testing.assert_close(encoder(segments, 4), encoder(turned, 4), rtol=0, atol=1e-11)


def test_rows_of_a_batch_do_not_hear_of_one_another() -> None:
    encoder, segments = small_encoder(), two_segments()
    before = encoder(segments, 4)
    features = segments["a"].features.clone()
    features[2] += 1
    after = encoder({**segments, "a": Tokens(features, (7,))}, 4)
    assert torch.equal(before[[0, 1, 3]], after[[0, 1, 3]]) and not torch.equal(before[2], after[2])


def test_a_row_with_nothing_to_read_gives_finite_latents_that_are_those_of_every_such_row() -> None:
    encoder = small_encoder()
    out = encoder({"b": two_segments()["b"]}, 4)
    assert out.isfinite().all() and torch.equal(out[0], out[2]) and not torch.equal(out[0], out[1])


def test_lists_of_different_lengths_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="3 steps and self_attend 2"):
        small_encoder(cross_attend=(0, None, None), self_attend=(0, 0))


@pytest.mark.parametrize("cross_attend", [(), (None, 0)])
def test_an_encoder_whose_first_step_reads_nothing_is_refused(cross_attend: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="first step must read"):
        small_encoder(cross_attend=cross_attend, self_attend=(0,) * len(cross_attend))


@pytest.mark.parametrize(
    ("cross_attend", "self_attend", "message"),
    [((0, 2), (0, 0), r"cross_attend.*\[0, 2\]"), ((1, 1), (0, 0), r"cross_attend.*\[1\]"), ((0, 0), (0, 3), r"self_attend.*\[0, 3\]")],
)
def test_weights_numbered_with_gaps_are_refused_with_their_numbers(cross_attend: tuple[int, ...], self_attend: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_encoder(cross_attend=cross_attend, self_attend=self_attend)


def test_an_encoder_refuses_to_read_nothing() -> None:
    with pytest.raises(ValueError, match="no row has any modality"):
        small_encoder()({}, 3)


def test_latents_start_within_two_widths_of_a_narrow_normal() -> None:
    weight = LatentArray(101, 103).weight
    assert weight.abs().max() <= 0.04 and abs(weight.mean()) < 1e-3
    assert weight.std().item() == pytest.approx(0.02 * 0.8796, rel=0.03)  # the width of a normal cut at two widths


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_blocks_gives_the_same_latents_and_the_same_gradients(dropout: float) -> None:
    options = dict(cross_block=partial(CrossBlock, dropout=dropout), self_block=partial(SelfBlock, heads=2, dropout=dropout))
    plain = small_encoder(cross_attend=(0, None, 0), self_attend=(0, 0, 0), **options)
    lean = copy.deepcopy(plain)
    lean.run_block = recompute
    segments, found = two_segments(), []
    project = nn.Linear(CONTEXT_DIM, CONTEXT_DIM)
    for encoder in (plain, lean):
        project.zero_grad()
        torch.manual_seed(7)
        projected = {name: Tokens(t.features, t.grid, None, t.mask, t.rows, project) for name, t in segments.items()}
        out = encoder(projected, 4)
        out.square().sum().backward()
        found.append({"latents": out, **gradients(encoder), **gradients(project)})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 1 + len(list(plain.parameters())) + 2
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_recomputing_is_a_constructor_argument() -> None:
    assert small_encoder(run_block=recompute).run_block is recompute


def test_every_parameter_gets_a_gradient() -> None:
    batch = compact_batch(raw_entries(), presence_table([1, 2, 4, 7, 5]))
    for name, build in MODELS.items():
        model = build()
        model(batch).square().sum().backward()
        missing = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        # The same number added to all scores of a query: softmax does not see a key's bias, and rounding alone is left of its gradient.
        assert {n for n in missing if not n.endswith("to_k.bias")} == set(), name


def test_bf16_autocast_stays_near_float32() -> None:
    encoder, segments = small_encoder(cross_attend=(0, 1), self_attend=(0, 1), num_layers=2), two_segments()
    exact = encoder(segments, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(segments, 4)
    assert rough.isfinite().all()
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05


def test_a_tiny_model_overfits_eight_random_rows() -> None:
    model = small_perceiver_io()
    batch = compact_batch(raw_entries(8), presence_table([7, 1, 2, 4, 3, 5, 6, 7]))
    targets = torch.randint(CLASSES, (8, OUTPUTS))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):  # which random numbers these are depends on the processor
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
    assert loss < 0.05 and torch.equal(model(batch).argmax(-1), targets)


@compiles
def test_compiled_blocks_agree_with_eager_ones() -> None:
    eager = Encoder(LATENTS, DIM, CONTEXT_DIM, num_layers=1, self_block=partial(SelfBlock, heads=2))
    compiled = copy.deepcopy(eager)
    for block in (compiled.cross[0], compiled.stacks[0][0]):
        block.compile()
    segments, found = two_segments(), []
    for encoder in (eager, compiled):
        out: Tensor = encoder(segments, 4)
        out.square().sum().backward()
        found.append({"latents": out.detach(), **gradients(encoder)})
    for name, value in found[0].items():
        if name.endswith("to_k.bias"):  # it moves all scores of a query alike: its gradient is nothing but rounding
            assert max(value.norm(), found[1][name].norm()) < 1e-4
            continue
        # Latents are small, and a norm makes their gradients large: it is the error beside the whole array that is bounded.
        assert (value - found[1][name]).norm() < 1e-5 * value.norm().clamp_min(1), name


def reading(*reads: tuple[str, ...] | None) -> Encoder:
    """A read for each, with a stack behind it."""
    numbers = tuple(range(len(reads)))
    return small_encoder(cross_attend=numbers, self_attend=numbers, reads=reads, num_layers=1)


def test_a_read_hears_the_modalities_that_it_names_and_no_other() -> None:
    encoder, segments = reading(("a",), ("b",)), two_segments()
    without = {"a": segments["a"]}
    with record_mass(encoder, ("cross",)) as records:
        encoder(segments, 4)
        encoder(without, 4)
    assert [set(record.mass) for record in records] == [{"a"}, {"b"}, {"a"}, set()]
    torch.testing.assert_close(records[0].mass["a"], torch.ones(4, LATENTS))


def test_naming_all_modalities_is_as_naming_none() -> None:
    torch.manual_seed(5)
    named = reading(("b", "a"), None)
    plain = small_encoder(cross_attend=(0, 1), self_attend=(0, 1), num_layers=1)
    plain.load_state_dict(named.state_dict())
    segments = two_segments()
    assert torch.equal(named(segments, 4), plain(segments, 4))


def test_a_row_without_the_modality_of_a_read_is_the_same_whether_others_have_it_or_not() -> None:
    encoder, segments = reading(("a",), ("b",)).double(), two_segments(dtype=torch.float64)
    torch.testing.assert_close(encoder(segments, 4)[[0, 2]], encoder({"a": segments["a"]}, 4)[[0, 2]], rtol=0, atol=1e-12)


def test_a_modality_that_no_step_reads_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no step reads b: name it in the encoder's reads"):
        reading(("a",), ("c",))(two_segments(), 4)
    with pytest.raises(ValueError, match="reads has 1 entries for 2 sets"):
        small_encoder(cross_attend=(0, 1), self_attend=(0, 1), reads=(None,))
