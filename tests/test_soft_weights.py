"""Soft weights: recorded without touching what a model computes, and true to what its attention did."""

import contextlib
import math
from typing import Any

import pytest
import torch
from builders import (
    BYTES,
    GRIDS,
    IMAGE_GRID,
    LATENTS,
    MODELS,
    NAMES,
    OUTPUTS,
    PATCHES,
    ROWS,
    Batch,
    compact_batch,
    compiles,
    gradients,
    presence_table,
    raw_entries,
    small_mean_pool,
    small_perceiver,
    small_perceiver_io,
    whole_batch,
)
from torch import Tensor, nn

from perceiver.attention import Attention
from perceiver.blocks import recompute
from perceiver.decoder import Decoder
from perceiver.positions import Rotary, rotary_angles
from perceiver.soft_weights import CHUNK, AttentionMap, each_head, record_attention, record_mass

TABLE = presence_table([7, 1, 2, 6, 0])
READ = ("encoder.cross",)


def mixed_batch() -> Batch:
    return whole_batch(raw_entries(), TABLE, math.nan)


def recorded(model: nn.Module, batch: Batch, *args: Any, **options: Any) -> list[AttentionMap]:
    with record_attention(model, *args, **options) as maps:
        model(batch)
    return maps


@pytest.mark.parametrize("name", ["Perceiver", "PerceiverIO", "LateFusion"])
@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_outputs_with_and_without_recording_are_the_same_to_the_last_bit(name: str, record: Any) -> None:
    model, batch = MODELS[name]().eval(), mixed_batch()
    plain = model(batch)
    with record(model) as maps:
        seen = model(batch)
    assert maps and torch.equal(plain, seen) and torch.equal(plain, model(batch))


@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_recording_changes_neither_the_outputs_nor_the_gradients_of_training_with_dropout(record: Any) -> None:
    model, batch, found = small_perceiver_io(dropout=0.3), mixed_batch(), []
    for context in (contextlib.nullcontext(), record(model)):
        model.zero_grad()
        torch.manual_seed(7)
        with context:
            out = model(batch)
            out.square().sum().backward()
        found.append({"out": out, **gradients(model)})
    assert len(found[0]) == len(found[1]) == 1 + len(list(model.parameters()))
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_recording_under_autocast_lets_every_gradient_through() -> None:
    model = small_perceiver_io()
    with record_attention(model) as maps, torch.autocast("cpu", torch.bfloat16):
        out = model(mixed_batch())
    out.float().square().sum().backward()
    assert len(gradients(model)) == len(list(model.parameters()))
    assert not any(w.requires_grad for entry in maps for w in entry.weights.values())


@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_what_is_recorded_is_float32_under_autocast(record: Any) -> None:
    model, batch = small_perceiver_io(), mixed_batch()
    with record(model, READ) as maps, torch.autocast("cpu", torch.bfloat16):
        model(batch)
    assert {x.dtype for x in maps[0].mass.values()} | {x.dtype for x in getattr(maps[0], "weights", {}).values()} == {torch.float32}
    total = sum(maps[0].mass.values())
    torch.testing.assert_close(total[:4], torch.ones_like(total[:4]), rtol=0, atol=1e-5)


def test_weights_are_folded_back_to_the_places_they_belong_to() -> None:
    (entry,) = recorded(small_perceiver_io(), mixed_batch(), READ)
    assert entry.layer == "encoder.cross.0.attention" and list(entry.weights) == list(entry.mass) == list(NAMES)
    for name in NAMES:
        assert entry.weights[name].shape == (ROWS, LATENTS, *GRIDS[name]) and entry.mass[name].shape == (ROWS, LATENTS)
    (heads,) = recorded(small_perceiver_io(), mixed_batch(), READ, over_heads=each_head)
    assert heads.weights["image"].shape == (ROWS, 1, LATENTS, *IMAGE_GRID) and heads.mass["image"].shape == (ROWS, 1, LATENTS)


def test_weights_sum_to_one_over_what_a_row_has_and_are_zero_where_it_has_nothing() -> None:
    for over_heads in ({}, {"over_heads": each_head}):
        for model in (small_perceiver_io(), small_perceiver()):
            for entry in recorded(model, mixed_batch(), READ, **over_heads):
                total = sum(entry.mass.values())
                torch.testing.assert_close(total[:4], torch.ones_like(total[:4]), rtol=0, atol=1e-5)
                assert (total[4] == 0).all()
                for i, name in enumerate(NAMES):
                    absent = ~TABLE[:, i]
                    assert (entry.weights[name][absent] == 0).all() and (entry.mass[name][absent] == 0).all()
                    assert (entry.weights[name] >= 0).all() and (entry.mass[name][~absent] > 0).all()


def test_weights_behind_a_length_are_zero() -> None:
    batch = mixed_batch()
    (entry,) = recorded(small_perceiver_io(), batch, READ)
    behind = torch.arange(BYTES) >= batch["text_length"][:, None]
    assert (entry.weights["text"].transpose(1, 2)[behind] == 0).all()
    ahead = ~behind & TABLE[:, 2:]
    assert (entry.weights["text"].transpose(1, 2)[ahead] > 0).all()
    heard = torch.arange(PATCHES) * 5 < batch["audio_length"][:, None]
    assert torch.equal(entry.weights["audio"][:, 0] > 0, heard & TABLE[:, 1:2])


def test_weights_do_not_depend_on_what_the_batch_holds_for_rows_without_a_modality() -> None:
    model, entries = small_perceiver_io(), raw_entries()
    (whole,), (compact,) = (recorded(model, batch, READ) for batch in (whole_batch(entries, TABLE, math.nan), compact_batch(entries, TABLE)))
    for name in NAMES:
        torch.testing.assert_close(whole.weights[name], compact.weights[name], rtol=0, atol=1e-6)


def test_a_modality_that_no_row_has_is_not_in_the_record() -> None:
    (entry,) = recorded(small_perceiver_io(), compact_batch(raw_entries(), presence_table([1, 5, 4, 1, 5])), READ)
    assert list(entry.weights) == ["image", "text"]


def test_heads_are_recorded_one_by_one_or_as_their_mean_or_as_any_function_of_them() -> None:
    model, batch, layers = small_perceiver_io().eval(), mixed_batch(), ("encoder.stacks",)
    for mean, heads, largest in zip(
        recorded(model, batch, layers),
        recorded(model, batch, layers, over_heads=each_head),
        recorded(model, batch, layers, over_heads=lambda weights: weights.amax(1)),
        strict=True,
    ):
        assert heads.weights["context"].shape == (ROWS, 2, LATENTS, LATENTS)
        torch.testing.assert_close(heads.weights["context"].mean(1), mean.weights["context"], rtol=0, atol=1e-6)
        torch.testing.assert_close(heads.weights["context"].amax(1), largest.weights["context"], rtol=0, atol=1e-6)
        assert not torch.allclose(heads.weights["context"][:, 0], heads.weights["context"][:, 1], atol=1e-4)


def test_mass_is_the_sum_of_the_weights_and_recording_it_alone_gives_the_same() -> None:
    for name in ("Perceiver", "PerceiverIO", "LateFusion"):
        for over_heads in ({}, {"over_heads": each_head}):
            model, batch = MODELS[name]().eval(), mixed_batch()
            maps = recorded(model, batch, **over_heads)
            with record_mass(model, **over_heads) as masses:
                model(batch)
            assert [m.layer for m in maps] == [m.layer for m in masses]
            for entry, alone in zip(maps, masses, strict=True):
                assert entry.mass.keys() == alone.mass.keys() == entry.weights.keys()
                for segment, mass in entry.mass.items():
                    weights = entry.weights[segment].flatten(3 if over_heads else 2).sum(-1)
                    torch.testing.assert_close(mass, weights, rtol=0, atol=1e-6)
                    torch.testing.assert_close(mass, alone.mass[segment], rtol=0, atol=1e-5)


def test_calls_are_recorded_in_their_order_and_a_shared_block_once_a_call() -> None:
    maps = recorded(small_perceiver_io(), mixed_batch())
    stack = "encoder.stacks.0.0.attention"
    assert [entry.layer for entry in maps] == ["encoder.cross.0.attention", stack, stack, "decoder.cross.attention"]
    assert not torch.equal(maps[1].weights["context"], maps[2].weights["context"])
    assert maps[3].weights["context"].shape == (ROWS, OUTPUTS, LATENTS)
    assert [entry.layer for entry in recorded(small_perceiver(), mixed_batch(), READ)] == [f"encoder.cross.{i}.attention" for i in (0, 1)]


def test_two_forward_passes_are_both_recorded() -> None:
    model, batch = small_perceiver_io(), mixed_batch()
    with record_attention(model, READ) as maps:
        model(batch)
        model(batch)
    assert len(maps) == 2 and torch.equal(maps[0].weights["text"], maps[1].weights["text"])


@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_a_call_that_the_backward_pass_computes_again_is_recorded_once(record: Any) -> None:
    model = small_perceiver_io()
    model.encoder.run_block = recompute
    with record(model, READ) as maps:
        model(mixed_batch()).sum().backward()
    assert len(maps) == 1


@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_a_layer_that_the_model_does_not_have_is_refused_with_the_names_it_has(record: Any) -> None:
    with pytest.raises(ValueError, match=r"'encoder.cros\.'.*encoder\.cross\.0\.attention, .*decoder\.cross\.attention"):
        with record(small_perceiver_io(), ("encoder.cros.",)):
            pass
    with pytest.raises(ValueError, match="this model has none"):
        with record(small_mean_pool()):
            pass


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_no_hook_is_left_behind_even_after_an_exception(record: Any) -> None:
    model, batch = small_perceiver_io(), mixed_batch()
    with record(model) as maps:
        assert hooks(model) == 3
        model(batch)
    assert hooks(model) == 0 and len(maps) == 4
    model(batch)
    assert len(maps) == 4
    with pytest.raises(RuntimeError, match="on purpose"):
        with record(model):
            raise RuntimeError("on purpose")
    assert hooks(model) == 0


def values_through_weights(layer: Attention, args: tuple[Any, ...], kwargs: dict[str, Any], weights: Tensor) -> Tensor:
    """What the layer's output must be if these (b, h, n, m) are its weights."""
    return layer.to_out((weights @ layer.project(*args, **kwargs)[2]).transpose(1, 2).flatten(-2))


@pytest.mark.parametrize("name", ["encoder.cross.0.attention", "encoder.stacks.0.0.attention", "decoder.cross.attention"])
def test_recorded_weights_times_values_are_the_output_of_the_attention(name: str) -> None:
    model, calls = small_perceiver_io().eval(), []
    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(lambda module, args, kwargs, out: calls.append((args, kwargs, out)), with_kwargs=True)
    maps = recorded(model, mixed_batch(), (name,), over_heads=each_head)
    handle.remove()
    assert len(maps) == len(calls) > 0
    for entry, (args, kwargs, out) in zip(maps, calls, strict=True):
        weights = torch.cat([w.flatten(3) for w in entry.weights.values()], -1)
        torch.testing.assert_close(values_through_weights(layer, args, kwargs, weights), out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [None, "keys", "queries"])
@pytest.mark.parametrize("turned", [False, True])
def test_more_queries_than_are_held_at_a_time_are_recorded_in_pieces(masked: str | None, turned: bool) -> None:
    queries, layer = 2 * CHUNK + 3, Attention(12, 5, heads=2)
    x, context = torch.randn(2, queries, 12), torch.randn(2, 7, 5)
    mask = None if masked is None else torch.rand(2, *([queries] if masked == "queries" else []), 7) < 0.6
    rotate = Rotary(rotary_angles(torch.arange(float(queries)), 6), rotary_angles(torch.arange(7.0), 6)) if turned else None
    with record_attention(layer, over_heads=each_head) as maps, record_mass(layer, over_heads=each_head) as masses:
        out = layer(x, context, mask, rotate=rotate)
    assert maps[0].layer == "" and maps[0].weights["context"].shape == (2, 2, queries, 7)
    expected = values_through_weights(layer, (x, context, mask, rotate), {}, maps[0].weights["context"])
    torch.testing.assert_close(expected, out, rtol=0, atol=1e-5)
    torch.testing.assert_close(maps[0].mass["context"], masses[0].mass["context"], rtol=0, atol=1e-5)


def test_the_answers_of_a_decoder_in_chunks_are_recorded_chunk_by_chunk() -> None:
    decoder, queries, latents = Decoder(10, 7, chunk_size=5), torch.randn(2, 11, 10), torch.randn(2, 3, 7)
    with record_attention(decoder) as maps:
        decoder(queries, latents)
    assert [entry.weights["context"].shape for entry in maps] == [(2, 5, 3), (2, 5, 3), (2, 1, 3)]


@compiles
@pytest.mark.parametrize("record", [record_attention, record_mass])
def test_compiled_blocks_are_recorded_too(record: Any) -> None:
    model, batch = small_perceiver_io().eval(), mixed_batch()
    expected = recorded(model, batch)
    model.encoder.cross[0].compile()
    model.encoder.stacks[0][0].compile()
    compiled = model(batch)
    with record(model) as maps:
        seen = model(batch)
    assert [entry.layer for entry in maps] == [entry.layer for entry in expected]
    for entry, other in zip(maps, expected, strict=True):
        for segment, mass in entry.mass.items():
            torch.testing.assert_close(mass, other.mass[segment], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen, compiled, rtol=0, atol=1e-5)
    torch.testing.assert_close(model(batch), compiled)
