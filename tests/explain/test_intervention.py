"""Other weights in the place of a model's own: the same ones change nothing, and a model whose attention is constant loses nothing by fixing it."""

from functools import partial

import pytest
import torch
from builders import CLASSES, LATENTS, NAMES, compact_batch, presence_table, raw_entries, small_perceiver, whole_batch

from perceiver.explain.attention import combination, intervention
from perceiver.explain.attention.intervention import MeanWeights, constant, held, permuted, reweighed, uniform
from perceiver.explain.attention.survey import survey
from perceiver.explain.examples import gather
from perceiver.explain.faithfulness.diagnosis import permutation
from perceiver.explain.pieces import tokens_of
from perceiver.explain.subject import Subject
from perceiver.tasks import Classification

TABLE = presence_table([7, 2, 5, 4, 3])
TARGET = torch.tensor([0, 6, 2, 1, 5])


def constant_model() -> Subject:
    """One whose queries say nothing, so that its weights are the same for all rows."""
    model = small_perceiver().eval()
    for name, parameter in model.named_parameters():
        if "to_q" in name:
            parameter.data.zero_()
    return Subject(Classification(model, CLASSES).eval())


def test_weights_left_as_they_are_change_nothing_but_rounding():
    asked, batch = Subject(small_perceiver().eval()), compact_batch(raw_entries(), TABLE)
    with torch.no_grad():
        before = asked.scores(batch)
        with reweighed(asked.model, ("",), lambda key, weights, allowed, sizes: weights):
            torch.testing.assert_close(asked.scores(batch), before, rtol=1e-4, atol=1e-5)
        assert torch.equal(asked.scores(batch), before)


def test_uniform_weights_are_the_mean_of_what_a_row_has():
    allowed = torch.tensor([[True, True, False, False], [True, True, True, True], [False] * 4])[:, None, None]
    found = uniform(("", 0), torch.rand(3, 1, 1, 4), allowed, {"a": 4})[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0, 0], [0.25] * 4, [0.0] * 4]))


def test_dealt_out_anew_each_query_has_the_same_weights_in_other_places_and_none_behind_the_mask():
    weights = torch.rand(5, 2, 3, 11)
    allowed = (torch.arange(11) < torch.tensor([11, 7, 1, 0, 5])[:, None])[:, None, None].expand_as(weights)
    weights = weights.masked_fill(~allowed, 0)
    found = permuted(torch.Generator().manual_seed(0))(("", 0), weights, allowed, {"a": 11})
    assert float(found.masked_fill(allowed, 0).abs().sum()) == 0
    torch.testing.assert_close(found.sort(-1).values, weights.sort(-1).values)
    assert not torch.equal(found, weights)


def test_the_mean_of_weights_is_over_the_rows_that_have_a_key_however_the_batches_are_cut():
    asked = Subject(small_perceiver().eval())
    examples = gather(asked, [compact_batch(raw_entries(), TABLE) | {"target": TARGET}], 5)["data"]
    found = []
    for size in (5, 2):
        mean = MeanWeights(asked.model, ("encoder.cross",))
        for start in range(0, 5, size):
            for batch, count in examples.some(range(start, min(start + size, 5))).batches():
                mean.add(partial(asked.scores, batch), count)
        found.append(mean())
    for key, segments in found[0].items():
        for name in NAMES:
            torch.testing.assert_close(found[1][key][name], segments[name])


def test_fixed_weights_are_shared_out_anew_among_the_keys_that_a_row_has():
    means = {("layer", 0): {"a": torch.tensor([[[0.6, 0.3]]]), "b": torch.tensor([[[0.1]]])}}
    allowed = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])[:, None, None]
    found = constant(means)(("layer", 0), torch.rand(3, 1, 1, 3), allowed, {"a": 2, "b": 1})[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([[6 / 7, 0, 1 / 7], [0.6, 0.3, 0.1], [0.0, 0.0, 0.0]]))


def test_a_model_whose_attention_is_constant_depends_on_no_input_and_loses_nothing_when_it_is_fixed():
    asked = constant_model()
    batch = whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": TARGET}
    batch["audio_length"][:], batch["text_length"][:] = 65, 17
    examples = gather(asked, [batch], 5, batch_size=2)["data"]
    for one in survey(asked, examples):
        assert float(one.dependence.abs().max()) < 1e-6
    for measure in combination.soft_gap(asked, examples, ["encoder.cross.0.attention", "encoder.cross.1.attention"]):
        assert measure.value == 0


def test_a_model_whose_attention_moves_with_the_input_depends_on_it():
    model = small_perceiver().eval()
    for name, parameter in model.named_parameters():
        if "to_q" in name or "to_k" in name:
            parameter.data.mul_(20)
    asked = Subject(model)
    examples = gather(asked, [whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": TARGET}], 5)["data"]
    assert max(float(one.dependence.mean()) for one in survey(asked, examples)) > 0.1


def test_weights_that_would_not_fit_into_memory_are_not_applicable_rather_than_held(monkeypatch):
    asked = Subject(Classification(small_perceiver(), CLASSES).eval())
    examples = gather(asked, [compact_batch(raw_entries(), TABLE) | {"target": TARGET}], 5)["data"]
    monkeypatch.setattr(intervention, "MOST_NUMBERS", 10)
    for measure in combination.soft_gap(asked, examples, ["encoder.cross"]):
        assert measure.verdict == "not applicable" and "at most 10 can be held" in measure.reason and measure.value is None


def test_rows_are_asked_so_few_at_a_time_that_their_weights_can_be_held(monkeypatch):
    asked = Subject(Classification(small_perceiver(), CLASSES).eval())
    examples = gather(asked, [compact_batch(raw_entries(), TABLE) | {"target": TARGET}], 5)["data"]
    reads = ("encoder.cross",)
    whole, moved = combination.soft_gap(asked, examples, list(reads)), permutation(asked, examples)
    segments, _ = tokens_of(asked, next(examples.batches())[0])
    row = LATENTS * asked.model.encoder.cross[0].attention.heads * sum(tokens.features.shape[1] for tokens in segments.values())
    for rows in (1, 2, 4):
        monkeypatch.setattr(intervention, "MOST_NUMBERS", row * (rows + 1) - 1)
        assert held(asked, examples, reads).batch_size == rows
        some = combination.soft_gap(asked, examples, list(reads))
        assert some[0].value == whole[0].value and some[0].reference == whole[0].reference
        found = permutation(asked, examples)
        assert found.n == 5 and found.value == pytest.approx(moved.value, abs=0.01)
    monkeypatch.setattr(intervention, "MOST_NUMBERS", 10)  # not even one row's
    found = permutation(asked, examples)
    assert found.verdict == "not applicable" and "at most 10 can be held" in found.reason


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no attention layer's name starts with 'nose'"), reweighed(small_perceiver(), ("nose",), uniform):
        pass
