"""Inputs: any row may lack any modality, and each is told apart from what was never there."""

import math
import re

import pytest
import torch
from builders import (
    BYTES,
    CONTEXT_DIM,
    GRIDS,
    NAMES,
    ROWS,
    SAMPLES,
    Batch,
    bounded,
    compact_batch,
    gradients,
    presence_table,
    raw_entries,
    small_perceiver,
    three_adapters,
    whole_batch,
    without_shape_checks,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.tokens import Tokens

tables = st.lists(st.integers(1, 7), min_size=ROWS, max_size=ROWS).map(presence_table)


def small_inputs(modality_dropout: ModalityDropout | None = None) -> Inputs:
    torch.manual_seed(5)
    return Inputs(three_adapters(), CONTEXT_DIM, modality_dropout=modality_dropout)


def read(inputs: Inputs, batch: Batch) -> dict[str, Tensor]:
    """Dense tokens in their places of the whole batch, and which of them may be attended."""
    segments, size = inputs(batch)
    dense = {name: tokens.dense() for name, tokens in segments.items()}
    found = {}
    for name, tokens in dense.items():
        found[f"{name}_may"] = tokens.attendable(size)
        found[name] = tokens.to_batch(tokens.features, size).masked_fill(~found[f"{name}_may"][..., None], 0)
    return found


@bounded
@given(tables, st.sampled_from([math.nan, math.inf, -1e30]))
def test_the_payload_of_an_absent_modality_reaches_neither_a_token_nor_a_gradient(table: Tensor, junk: float) -> None:
    inputs, entries, found = small_inputs(), raw_entries(), []
    for batch in (whole_batch(entries, table), whole_batch(entries, table, junk)):
        inputs.zero_grad()
        tokens = read(inputs, batch)
        sum(t.square().sum() for t in tokens.values() if t.is_floating_point()).backward()
        found.append({**tokens, **gradients(inputs)})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert found[1][key].isfinite().all() and torch.equal(value, found[1][key]), key


@bounded
@given(tables)
def test_entries_of_all_rows_and_entries_of_only_those_that_have_them_are_the_same_batch(table: Tensor) -> None:
    inputs, entries = small_inputs(), raw_entries()
    whole, compact = read(inputs, whole_batch(entries, table)), read(inputs, compact_batch(entries, table))
    assert whole.keys() == compact.keys()
    for key, value in whole.items():
        assert torch.equal(value, compact[key]), key
    for i, name in enumerate(NAMES):
        assert (name in whole) == bool(table[:, i].any())
        if name in whole:
            assert torch.equal(whole[f"{name}_may"].any(1), table[:, i])


def test_a_modality_without_a_presence_vector_is_there_in_every_row() -> None:
    inputs, entries = small_inputs(), raw_entries()
    segments, size = inputs(entries)
    assert size == ROWS and list(segments) == list(NAMES)
    for name, tokens in segments.items():
        assert tokens.rows is None and tokens.features.shape[:2] == (ROWS, math.prod(GRIDS[name])) and tokens.grid == GRIDS[name]
    del entries["audio"], entries["audio_length"]
    assert list(inputs(entries)[0]) == ["image", "text"]


def test_a_modality_that_no_row_has_gives_no_tokens_at_all() -> None:
    segments, _ = small_inputs()(whole_batch(raw_entries(), presence_table([1, 5, 4, 1, 5]), math.nan))
    assert list(segments) == ["image", "text"]


@pytest.mark.parametrize("compact", [False, True])
def test_a_mask_says_the_same_as_a_length(compact: bool) -> None:
    inputs, table = small_inputs(), presence_table([7, 2, 1, 6, 3])
    batch = (compact_batch if compact else whole_batch)(raw_entries(), table)
    masked = dict(batch)
    masked["audio_mask"] = torch.arange(batch["audio"].shape[-1]) < masked.pop("audio_length")[:, None]
    for a, b in zip(read(inputs, batch).values(), read(inputs, masked).values(), strict=True):
        assert torch.equal(a, b)


def test_the_order_of_tokens_is_that_of_the_adapters_and_not_that_of_the_batch() -> None:
    segments, _ = small_inputs()(dict(reversed(raw_entries().items())))
    assert list(segments) == list(NAMES)


def test_a_model_without_adapters_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one adapter"):
        Inputs({}, CONTEXT_DIM)


def test_a_batch_without_any_modality_is_refused_with_its_keys_and_those_of_the_model() -> None:
    inputs, nothing = small_inputs(), presence_table([0] * ROWS)
    for batch in (whole_batch(raw_entries(), nothing), compact_batch(raw_entries(), nothing)):
        with pytest.raises(ValueError, match="reads image, audio, text.*image_present.*text_present"):
            inputs(batch)
    with pytest.raises(ValueError, match="the batch holds nothing"):
        inputs({})


def test_a_batch_whose_keys_are_all_misspelt_is_refused_with_its_keys_and_those_of_the_model() -> None:
    with pytest.raises(ValueError, match="reads image, audio, text.*holds imgae, label"):
        small_inputs()({"imgae": torch.rand(ROWS, 2, 6, 15), "label": torch.zeros(ROWS)})


def test_a_misspelt_entry_beside_a_presence_vector_that_promises_it_is_refused() -> None:
    batch = whole_batch(raw_entries(), presence_table([7, 1, 2, 5, 3]))
    batch["imgae"] = batch.pop("image")
    with pytest.raises(ValueError, match="image"):
        small_inputs()(batch)


@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_an_entry_with_neither_all_rows_nor_those_that_have_it_is_refused_with_the_numbers(number: int) -> None:
    batch = compact_batch(raw_entries(), presence_table([7, 1, 2, 5, 2]))  # three rows of five have a picture
    batch["image"] = torch.rand(number, 2, 6, 15)
    with pytest.raises(ValueError, match=rf"'image' has {number} entries.*5 rows, 3 of them"):
        small_inputs()(batch)


def test_entries_that_disagree_about_the_number_of_rows_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"'image': 3.*'text': 2"):
        small_inputs()({"image": torch.rand(3, 2, 6, 15), "text": torch.zeros(2, 7, dtype=torch.int64)})
    with pytest.raises(ValueError, match=r"'image_present': 7.*'text': 2"):
        small_inputs()({"image": torch.rand(3, 2, 6, 15), "image_present": torch.arange(7) < 3, "text": torch.zeros(2, 7, dtype=torch.int64)})


@pytest.mark.parametrize("key", ["audio_length", "audio_mask"])
def test_lengths_of_other_rows_than_those_of_the_entry_are_refused_with_both_numbers(key: str) -> None:
    table = presence_table([1, 2, 1, 3, 2])  # rows 1, 3 and 4 have a sound
    for entries, others in ((compact_batch(raw_entries(), table), ROWS), (whole_batch(raw_entries(), table), 3)):
        number = len(entries["audio"])
        del entries["audio_length"]
        entries[key] = torch.full((others,), 7) if key == "audio_length" else torch.ones(others, entries["audio"].shape[-1], dtype=torch.bool)
        with without_shape_checks(), pytest.raises(ValueError, match=rf"{key}.*{others}.*{number}"):
            small_inputs()(entries)


def test_data_and_position_start_with_equal_weight() -> None:
    torch.manual_seed(11)
    inputs = Inputs(three_adapters(), 4_001)
    for name, adapter in inputs.adapters.items():
        data, position = inputs.projections[name].weight.split([adapter.feature_dim, adapter.position_dim], 1)
        for part in (data, position):
            assert part.square().sum(1).mean().item() == pytest.approx(0.5, rel=0.1)


class Points(Adapter):
    """A modality without positions, from outside the library."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim, self.position_dim = 3, 0

    def forward(self, payload: Tensor, mask: Tensor | None = None) -> Tokens:
        return Tokens(payload, (payload.shape[1],), mask=mask)


def test_an_adapter_without_positions_needs_none() -> None:
    inputs, points = Inputs({"points": Points()}, CONTEXT_DIM), torch.randn(2, 7, 3)
    segments, _ = inputs({"points": points})
    torch.testing.assert_close(segments["points"].dense().features, inputs.projections["points"](points), rtol=0, atol=1e-5)


# Modality dropout


def keep(dropout: ModalityDropout, table: Tensor) -> Tensor:
    return torch.stack(list(dropout(dict(zip(NAMES, table.T, strict=True))).values()), 1)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.99])
def test_modality_dropout_never_hides_all_that_a_row_has_and_never_shows_what_it_lacks(probability: float) -> None:
    table = torch.rand(997, 3) < 0.6
    kept = keep(ModalityDropout(probability), table)
    assert not (kept & ~table).any()
    assert torch.equal(kept.any(1), table.any(1))


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7])
def test_modality_dropout_hides_about_as_often_as_told(probability: float) -> None:
    rows = 20_011
    hidden = 1 - keep(ModalityDropout(probability), torch.ones(rows, 3, dtype=torch.bool)).float().mean(0)
    expected = probability - probability**3 / 3  # where all three would go, one stays, each equally likely
    assert (hidden - expected).abs().max() < 5 * (0.25 / rows) ** 0.5
    alone = keep(ModalityDropout(probability), presence_table([4]).expand(rows, -1))
    assert alone[:, 2].all()


def test_modality_dropout_does_nothing_when_not_training() -> None:
    table = torch.rand(101, 3) < 0.6
    assert torch.equal(keep(ModalityDropout(0.9).eval(), table), table)
    plain, dropping, batch = small_inputs().eval(), small_inputs(ModalityDropout(0.9)).eval(), raw_entries()
    for a, b in zip(read(plain, batch).values(), read(dropping, batch).values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("probability", [1.0, -0.1, math.nan])
def test_a_probability_outside_zero_to_one_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=f"probability={probability}"):
        ModalityDropout(probability)


@bounded
@given(tables, st.booleans(), st.integers(0, 10**6))
def test_a_hidden_modality_is_as_good_as_absent(table: Tensor, compact: bool, seed: int) -> None:
    inputs, entries, draws = small_inputs(ModalityDropout(0.5)), raw_entries(), []
    handle = inputs.modality_dropout.register_forward_hook(lambda module, args, kept: draws.append(kept))
    torch.manual_seed(seed)
    hidden = read(inputs, (compact_batch if compact else whole_batch)(entries, table))
    handle.remove()
    left = torch.stack([draws[0].get(name, torch.zeros(ROWS, dtype=torch.bool)) for name in NAMES], 1)
    assert not (left & ~table).any() and left.any(1).all()
    expected = read(inputs.eval(), compact_batch(entries, left))
    assert hidden.keys() == expected.keys()
    for key, value in hidden.items():
        assert torch.equal(value, expected[key]), key


def test_modality_dropout_also_hides_where_there_is_no_presence_vector() -> None:
    segments, _ = small_inputs(ModalityDropout(0.9))(raw_entries())
    rows = [ROWS if tokens.rows is None else len(tokens.rows) for tokens in segments.values()]
    assert ROWS <= sum(rows) < 3 * ROWS


def test_inputs_hold_one_adapter_and_one_projection_a_modality() -> None:
    inputs = small_inputs()
    assert list(inputs.adapters) == list(inputs.projections) == list(NAMES)
    assert all(isinstance(p, nn.Linear) and p.out_features == CONTEXT_DIM for p in inputs.projections.values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("audio", [0.5], "'audio' is list: give a tensor whose first axis is the rows"),
        ("audio_present", torch.tensor([1, 2]), "'audio_present' is torch.int64 of (2,): give one bool a row"),
        ("audio_present", torch.ones(2, 3, dtype=torch.bool), "'audio_present' is torch.bool of (2, 3): give one bool a row"),
        ("text_length", torch.tensor([1.5, 2.0]), "'text_length' is torch.float32 of (2,): give one whole number a row"),
        ("text_mask", torch.ones(2, BYTES), f"'text_mask' is torch.float32 of (2, {BYTES}): give bools"),
        ("text_mask", torch.ones(2, 3, dtype=torch.bool), f"a mask of (2, 3), or lengths that make one, for entries that vary along (2, {BYTES})"),
        ("image_length", torch.tensor([1, 2]), "for entries that vary along (2, 6, 15)"),
        ("text", torch.full((2, BYTES), 262), "ids from 262 to 262, and this table has 0 to 261"),
        ("audio", torch.zeros(2, 1, SAMPLES, dtype=torch.float64), "'audio' is in double precision, and the model in torch.float32"),
    ],
)
def test_what_is_no_entry_is_refused_by_its_name(key, value, message):
    batch = {name: entry for name, entry in raw_entries(2).items() if not name.endswith("_length")}
    with without_shape_checks(), pytest.raises(ValueError, match=re.escape(message)):
        small_perceiver()(batch | {key: value})
