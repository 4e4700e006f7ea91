"""Models: a row is answered from what it has, whatever the other rows of its batch have, and a modality can be added from outside."""

import copy
import functools
import io
import math
import pickle

import pytest
import torch
from builders import (
    CLASSES,
    MODELS,
    NAMES,
    OUTPUTS,
    ROWS,
    bounded,
    compact_batch,
    gradients,
    presence_table,
    raw_entries,
    small_encoder,
    small_mean_pool,
    small_perceiver,
    small_perceiver_io,
    three_adapters,
    whole_batch,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters import Adapter, AudioPatches, ModalityDropout
from perceiver.decoder import Decoder
from perceiver.models import LateFusion, PerceiverIO
from perceiver.positions import FourierPositions
from perceiver.queries import InputQueries, LearnedQueries, PositionQueries
from perceiver.tokens import Tokens

tables = st.lists(st.integers(1, 7), min_size=ROWS, max_size=ROWS).map(presence_table)
every_model = pytest.mark.parametrize("model", list(MODELS))


@functools.cache
def built(model: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(11)
    return MODELS[model]().eval().to(dtype)


def close(a: Tensor, b: Tensor) -> None:
    """Equal to rounding, in float64."""
    assert a.dtype == b.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@every_model
@bounded
@given(tables, st.sampled_from([math.nan, math.inf, 1e30]))
def test_what_lies_in_an_absent_payload_changes_no_bit_of_an_output_or_a_gradient(model: str, table: Tensor, junk: float) -> None:
    net, entries, found = built(model), raw_entries(), []
    for batch in (whole_batch(entries, table), whole_batch(entries, table, junk)):
        net.zero_grad()
        out = net(batch)
        out.square().sum().backward()
        found.append({"out": out.detach(), **gradients(net)})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert found[1][key].isfinite().all() and torch.equal(value, found[1][key]), key


@every_model
@bounded
@given(tables)
def test_a_row_gives_what_it_gives_in_a_batch_where_nobody_has_what_it_lacks(model: str, table: Tensor) -> None:
    net, entries = built(model, torch.float64), raw_entries(dtype=torch.float64)
    out = net(whole_batch(entries, table, math.nan))
    for i in range(len(NAMES)):
        lacking = ~table[:, i]
        others = table.clone()
        others[:, i] = False
        if lacking.any() and others.any():
            close(net(whole_batch(entries, others, math.nan))[lacking], out[lacking])
            close(net(compact_batch(entries, others))[lacking], out[lacking])


@every_model
@bounded
@given(tables)
def test_entries_of_all_rows_and_entries_of_only_those_that_have_them_give_the_same_outputs(model: str, table: Tensor) -> None:
    net, entries = built(model, torch.float64), raw_entries(dtype=torch.float64)
    close(net(whole_batch(entries, table, math.nan)), net(compact_batch(entries, table)))


@every_model
@bounded
@given(tables)
def test_a_row_gives_what_it_gives_alone(model: str, table: Tensor) -> None:
    net, entries = built(model, torch.float64), raw_entries(dtype=torch.float64)
    out = net(whole_batch(entries, table, math.nan))
    assert out.shape == ((ROWS, OUTPUTS, CLASSES) if model in ("PerceiverIO", "LateFusion") else (ROWS, CLASSES))
    for row in range(ROWS):
        alone = {key: value[row : row + 1] for key, value in entries.items()}
        close(net(compact_batch(alone, table[row : row + 1]))[0], out[row])
        own = {key: value for key, value in alone.items() if table[row, NAMES.index(key.removesuffix("_length"))]}
        close(net(own)[0], out[row])


@every_model
def test_a_row_with_nothing_present_is_finite_and_so_are_the_gradients_of_the_others(model: str) -> None:
    net, table = built(model), presence_table([7, 0, 2, 0, 5])
    for batch in (whole_batch(raw_entries(), table, math.nan), compact_batch(raw_entries(), table)):
        net.zero_grad()
        out = net(batch)
        out.square().sum().backward()
        assert out.isfinite().all() and torch.allclose(out[1], out[3], atol=1e-6)  # not all processors multiply the rows of a matrix alike
        assert all(g.isfinite().all() for g in gradients(net).values())


@every_model
def test_a_row_whose_only_entry_has_no_length_is_finite(model: str) -> None:
    net, entries = built(model), raw_entries()
    entries["audio_length"][1] = 0
    net.zero_grad()
    out = net(whole_batch(entries, presence_table([7, 2, 2, 1, 5]), math.nan))
    out.square().sum().backward()
    assert out.isfinite().all() and all(g.isfinite().all() for g in gradients(net).values())


@every_model
def test_a_batch_without_any_modality_is_refused_with_the_modalities_of_the_model(model: str) -> None:
    with pytest.raises(ValueError, match="image, audio, text"):
        built(model)(compact_batch(raw_entries(), presence_table([0] * ROWS)))
    with pytest.raises(ValueError, match="image, audio, text"):
        built(model)({"imgae": torch.rand(ROWS, 2, 6, 15)})


@every_model
def test_a_misspelt_entry_beside_a_presence_vector_that_promises_it_is_refused(model: str) -> None:
    batch = whole_batch(raw_entries(), presence_table([7, 1, 2, 5, 3]))
    batch["imgae"] = batch.pop("image")
    with pytest.raises(ValueError, match="image"):
        built(model)(batch)


@every_model
def test_an_entry_with_a_wrong_number_of_rows_is_refused_with_the_numbers(model: str) -> None:
    batch = compact_batch(raw_entries(), presence_table([7, 1, 2, 5, 2]))
    batch["image"] = torch.rand(4, 2, 6, 15)
    with pytest.raises(ValueError, match="4 entries.*5 rows, 3 of them"):
        built(model)(batch)


@every_model
def test_a_state_dict_loaded_into_another_model_gives_the_same_outputs(model: str) -> None:
    net, other, batch = built(model), MODELS[model]().eval(), compact_batch(raw_entries(), presence_table([7, 1, 2, 5, 3]))
    assert not torch.equal(net(batch), other(batch))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(net(batch), other(batch))


@every_model
def test_a_copied_or_pickled_model_gives_the_same_outputs(model: str) -> None:
    net, batch = built(model), compact_batch(raw_entries(), presence_table([7, 1, 2, 5, 3]))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(net(batch), other(batch))


def test_late_fusion_is_the_mean_of_the_models_of_what_a_row_has() -> None:
    net, entries, table = built("LateFusion", torch.float64), raw_entries(dtype=torch.float64), presence_table([7, 1, 2, 5, 6])
    assert isinstance(net, LateFusion)
    alone = torch.stack([net.models[name]({key: v for key, v in entries.items() if key.startswith(name)}) for name in NAMES], 1)
    has = table[:, :, None, None]
    close(net(whole_batch(entries, table, math.nan)), (alone * has).sum(1) / has.sum(1))


def test_mean_pool_reads_the_mean_of_the_tokens_that_may_be_attended() -> None:
    net, entries, table = built("MeanPool", torch.float64), raw_entries(dtype=torch.float64), presence_table([7, 1, 2, 5, 6])
    segments, _ = net.inputs(entries)
    means = torch.zeros(ROWS, len(NAMES), net.inputs.dim, dtype=torch.float64)
    for i, tokens in enumerate(segments.values()):
        dense = tokens.dense().features
        for row in table[:, i].nonzero().flatten():
            means[row, i] = (dense[row] if tokens.mask is None else dense[row][tokens.mask[row]]).mean(0)
    close(net(whole_batch(entries, table, math.nan)), net.mlp(means.flatten(1)))


def test_a_perceiver_answers_from_the_mean_of_its_latents() -> None:
    net, entries = built("Perceiver", torch.float64), raw_entries(dtype=torch.float64)
    segments, size = net.inputs(entries)
    close(net(entries), net.head(net.norm(net.encoder(segments, size).mean(1))))
    close(net(entries), net(dict(reversed(entries.items()))))


@pytest.mark.parametrize("build", [small_perceiver, small_perceiver_io, small_mean_pool])
def test_modality_dropout_works_in_training_only(build: functools.partial[nn.Module]) -> None:
    plain, dropping, batch = build(), build(modality_dropout=ModalityDropout(0.9)), raw_entries()
    dropping.load_state_dict(plain.state_dict())
    plain.eval()
    assert not torch.equal(dropping(batch), plain(batch))
    assert torch.equal(dropping.eval()(batch), plain(batch))


def test_widths_that_do_not_fit_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="width 13.*takes 11"):
        PerceiverIO(three_adapters(), small_encoder(), LearnedQueries(2, 13), Decoder(11, 14), nn.Identity())
    with pytest.raises(ValueError, match="width 10.*makes 14"):
        PerceiverIO(three_adapters(), small_encoder(), LearnedQueries(2, 13), Decoder(13, 10), nn.Identity())


def test_outputs_may_lie_on_a_grid_or_where_an_input_lay() -> None:
    entries = raw_entries()
    grid = PositionQueries(FourierPositions((3, 5), 2))
    places = PerceiverIO(three_adapters(), small_encoder(), grid, Decoder(grid.dim, 14), nn.Linear(grid.dim, 2))
    assert places(entries).shape == (ROWS, 15, 2)
    letters = PerceiverIO(three_adapters(), small_encoder(), InputQueries("text", 11, 13), Decoder(13, 14), nn.Linear(13, 262))
    assert letters(entries).shape == (ROWS, 17, 262)


class Touch(Adapter):
    """A fourth modality, from outside the library: readings of seven sensors over time."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = FourierPositions((19,), 2)
        self.feature_dim, self.position_dim = 7, self.positions.width

    def forward(self, payload: Tensor, mask: Tensor | None = None) -> Tokens:
        steps = payload.shape[1]
        return Tokens(payload, (steps,), positions=self.positions((19,)).first(steps), mask=mask)


def test_a_fourth_modality_is_added_without_editing_the_library() -> None:
    three, four = small_perceiver_io(), small_perceiver_io({**three_adapters(), "touch": Touch()})
    shapes = {name: p.shape for name, p in four.named_parameters()}
    assert {name: p.shape for name, p in three.named_parameters()}.items() <= shapes.items()
    assert {name for name in shapes if "touch" in name} == shapes.keys() - dict(three.named_parameters()).keys()

    missing = four.load_state_dict(three.state_dict(), strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) == {name for name in shapes if "touch" in name}
    old = compact_batch(raw_entries(), presence_table([7, 1, 2, 5, 0]))
    touched = {**old, "touch": torch.randn(2, 11, 7), "touch_present": torch.tensor([False, True, False, False, True])}
    before, after = three(old), four(touched)
    torch.testing.assert_close(before[[0, 2, 3]], after[[0, 2, 3]], rtol=0, atol=1e-5)
    assert not torch.allclose(before[[1, 4]], after[[1, 4]], atol=1e-3)

    targets = torch.randint(CLASSES, (ROWS, OUTPUTS))
    optimizer, losses = torch.optim.Adam(four.parameters(), 1e-2), []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.cross_entropy(four(touched).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert four.inputs.projections["touch"].weight.grad.abs().sum() > 0


def test_a_modality_may_have_any_name_and_any_number_of_adapters_may_be_alike() -> None:
    adapters = {name: AudioPatches(50, 1.3, patch=5, num_bands=3) for name in ("left ear", "right ear")}
    net = small_perceiver_io(adapters)
    assert net({"left ear": torch.rand(3, 1, 65), "right ear": torch.rand(3, 1, 31)}).isfinite().all()
