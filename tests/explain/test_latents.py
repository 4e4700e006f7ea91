"""Rank of the latents: known answers, and what attention alone does to it."""

import pytest
import torch
from builders import CLASSES, DIM, LATENTS, compact_batch, presence_table, raw_entries, small_mean_pool, small_perceiver
from torch import nn

from perceiver.explain.examples import gather
from perceiver.explain.latents import depth_of, effective_rank, latents_by_depth, measures, relative_residual
from perceiver.explain.subject import Subject
from perceiver.explain.untrained import untrained
from perceiver.softmax import soft_weights
from perceiver.tasks import Classification


def test_rows_along_some_directions_of_equal_length_have_that_many():
    directions = torch.eye(11)[:5]
    rows = torch.cat([directions, -directions])  # centred already
    assert float(effective_rank(rows)) == pytest.approx(5, rel=1e-5)


def test_equal_rows_have_no_direction_and_no_residual():
    rows = torch.randn(1, 13).expand(7, -1)
    assert float(effective_rank(rows)) == 0 and float(relative_residual(rows)) < 1e-6
    assert float(effective_rank(torch.zeros(7, 13))) == 0


def test_neither_scale_nor_shift_nor_rotation_changes_the_rank():
    rows = torch.randn(3, 7, 13)
    turn, _ = torch.linalg.qr(torch.randn(13, 13))
    torch.testing.assert_close(effective_rank(17 * rows @ turn + 5), effective_rank(rows), rtol=1e-3, atol=1e-3)


def test_attention_alone_loses_rank_with_depth_and_a_residual_keeps_it():
    start = torch.randn(64, 64)
    maps = [(torch.randn(64, 64) / 8, torch.randn(64, 64) / 8, torch.randn(64, 64) / 8) for _ in range(8)]
    found = {}
    for skip in (0.0, 1.0):
        x, ranks = start, [float(effective_rank(start))]
        for q, k, v in maps:
            weights = soft_weights((x @ q)[None, None], (x @ k)[None, None])[0, 0]
            x = skip * x + weights @ x @ v
            ranks.append(float(effective_rank(x)))
        found[skip] = (ranks, float(relative_residual(x)))
    assert found[0.0][0][-1] < 1.1 and found[0.0][1] < 0.01
    assert found[1.0][0][-1] > 25


def test_the_latents_behind_each_block_are_recorded_run_by_run_and_change_nothing():
    model, batch = small_perceiver().eval(), compact_batch(raw_entries(), presence_table([7, 2, 5, 4, 3]))
    with torch.no_grad():
        before = model(batch)
        with latents_by_depth(model) as found:
            after = model(batch)
    assert torch.equal(before, after)
    assert list(found) == ["encoder.cross.0", "encoder.stacks.0.0", "encoder.cross.1", "encoder.stacks.0.0 (2)"]
    assert all(latents.shape == (5, LATENTS, DIM) for latents in found.values())


def test_each_depth_stands_beside_the_untrained_twin_and_too_few_rows_are_said_to_be():
    subject = Subject(Classification(small_perceiver(), CLASSES).eval())
    batch = compact_batch(raw_entries(), presence_table([7, 2, 5, 4, 3])) | {"target": torch.zeros(5, dtype=torch.long)}
    examples = gather(subject, [batch], 5, batch_size=2)
    assert depth_of(subject, examples["data"])["encoder.cross.0"].shape == (5, LATENTS, DIM)
    found = measures(subject, examples, untrained(subject.model))
    assert {"effective rank", "effective rank over rows", "residual"} == {measure.name for measure in found}
    rank = found[0]
    assert set(rank.reference) == {"most", "untrained"} and rank.reference["most"] == LATENTS - 1
    assert rank.value != rank.reference["untrained"] and rank.n == 5 and rank.interval is None
    assert any(measure.verdict == "not applicable" and "5 rows are too few" in measure.reason for measure in found)


def test_latents_that_have_become_one_are_warned_of():
    model = small_perceiver().eval()
    model.encoder.latents.weight.data[:] = 0.02  # all latents ask alike, so they read alike
    subject = Subject(Classification(model, CLASSES).eval())
    batches = [compact_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.zeros(5, dtype=torch.long)} for _ in range(2)]
    few = measures(subject, gather(subject, batches[:1], 5), None)
    assert {(m.verdict, "5 rows are too few" in m.reason) for m in few if m.name in ("effective rank", "residual")} == {("ok", True)}
    found = measures(subject, gather(subject, batches, 10), None)
    assert {measure.verdict for measure in found if measure.name in ("effective rank", "residual")} == {"warning"}


def test_an_encoder_is_found_by_its_latents_whatever_it_is_called():
    model, batch = small_perceiver().eval(), compact_batch(raw_entries(), presence_table([7] * 5))
    holder = nn.ModuleDict({"trunk": model.encoder})
    with latents_by_depth(holder) as found, torch.no_grad():
        model(batch)
    assert list(found)[0] == "trunk.cross.0" and len(found) == 4


def test_each_rank_has_the_price_of_asking_the_model_and_its_twin():
    subject = Subject(Classification(small_perceiver(), CLASSES).eval())
    batches = [compact_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.zeros(5, dtype=torch.long)} for _ in range(8)]
    found = measures(subject, gather(subject, batches, 40), untrained(subject.model))
    assert {measure.name for measure in found if measure.value is not None} == {"effective rank", "effective rank over rows", "residual"}
    assert {measure.price.passes for measure in found if measure.value is not None} == {2}


def test_a_model_without_latents_has_no_rank_to_measure():
    subject = Subject(Classification(small_mean_pool(), CLASSES).eval())
    batch = compact_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.zeros(5, dtype=torch.long)}
    (found,) = measures(subject, gather(subject, [batch], 5), None)
    assert found.verdict == "not applicable" and found.value is None and "no latents were found" in found.reason


def test_the_untrained_twin_has_the_same_shape_and_other_weights_and_leaves_the_random_numbers_alone():
    model = small_perceiver()
    state = torch.get_rng_state()
    twin = untrained(model)
    assert twin is not None and torch.equal(torch.get_rng_state(), state)
    assert {name: p.shape for name, p in twin.named_parameters()} == {name: p.shape for name, p in model.named_parameters()}
    assert not torch.equal(twin.encoder.cross[0].attention.to_k.weight, model.encoder.cross[0].attention.to_k.weight)
    model.head = torch.nn.LazyLinear(3)  # none of the library's, so it cannot be told
    assert untrained(model) is None
