"""The report: it is plain data, tables and sentences, on a batch or on the largest entries; what is asked wrongly is refused."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import perceiver.tokens
from perceiver.adapters import Adapter, AudioPatches, ByteNgrams, ImagePatches, LogMel, TextBytes
from perceiver.adapters.image_map import ConvStem, FramePair, ImageMap
from perceiver.adapters.padded import OneToken, Padded, SoundPatches, VideoPatches
from perceiver.blocks import recompute
from perceiver.cost import cost_report, largest_entries, measured
from perceiver.cost.tables import of_measured, short
from perceiver.models import LateFusion, Perceiver
from perceiver.positions import FourierPositions, LearnedGrid
from perceiver.tokens import Tokens
from tests.builders import (
    CLASSES,
    DIM,
    MODELS,
    Batch,
    gradients,
    raw_entries,
    small_encoder,
    small_perceiver_io,
    three_adapters,
)
from tests.cost.counted_models import pixels, small_perceiver_io_with


@pytest.mark.slow
def test_a_report_is_plain_data_and_tables_and_sentences():
    report = cost_report(pixels(), accuracy=0.75)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["dense"]["forward"] == report.dense.forward and plain["agreement"]["dense, forward"]["difference"] == 0
    assert plain["accuracy_per_gflop"] == report.accuracy_per_gflop == pytest.approx(0.75e9 / report.factored.forward)
    assert [table.row_count for table in report.tables()] == [9, len(report.blocks), len(report.modalities)]
    assert len(report.summary()) == 7 and all(sentence.endswith(".") for sentence in report.summary())
    assert report.summary()[1].startswith("One input takes ") and " as this library runs" in report.summary()[1]
    assert cost_report(pixels()).accuracy_per_gflop is None


@pytest.mark.slow
def test_table_1_has_this_models_numbers():
    rows = {row.layer: row for row in cost_report(pixels()).table_one}
    assert rows["recurrent"].num_steps == rows["recurrent"].num_hops == 1024 + 17
    assert rows["self-attention"].flops > rows["restricted self-attention, r = 3"].flops > rows["Perceiver, encode"].flops
    assert rows["restricted self-attention, r = 3"].num_hops == 347 and rows["convolution, k = 3"].num_hops == 7
    assert (rows["the whole model"].num_steps, rows["the whole model"].num_hops) == (5, 2)
    without = {row.layer: row for row in cost_report(MODELS["MeanPool"]()).table_one}
    assert without["the whole model"].num_hops == 1 and "Perceiver, encode" not in without


def test_table_1_is_of_one_row_whatever_the_batch():
    model = small_perceiver_io()
    one, five = (cost_report(model, raw_entries(rows) | whole(rows)) for rows in (1, 5))
    assert one.table_one[:-1] == five.table_one[:-1]
    cells = [list(report.tables()[0].columns[2].cells) for report in (one, five)]
    assert cells[0][:-2] == cells[1][:-2]
    # Latents and their queries are the same in each row of a batch, and are projected once: a row's share of that gets smaller.
    for alone, shared in zip(*([number(cell) for cell in each[-2:]] for each in cells), strict=True):
        assert 0.9 * alone < shared <= alone
    assert one.transformer is not None and cells[0][-1] == short(one.transformer.computed.forward)


def whole(rows: int) -> Batch:
    """Lengths of entries that have nothing behind them."""
    return {"audio_length": torch.full((rows,), 65), "text_length": torch.full((rows,), 23)}


def number(cell: str) -> float:
    """What a cell says in digits and a unit."""
    digits, unit = cell.split()
    return float(digits) * {"k": 1e3, "M": 1e6}[unit]


@pytest.mark.slow
def test_a_model_is_as_it_was_afterwards():
    model, batch = pixels(), {"image": torch.rand(2, 3, 32, 32), "text": torch.randint(6, 262, (2, 17))}
    model.train()
    before = model(batch)
    cost_report(model, batch)
    assert torch.equal(before, model(batch)) and model.training and not gradients(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class OnlyLinear(nn.Module):
    """Keeps what came out of its map for the gradient of the tanh, and its input, which is the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = perceiver.adapters.Inputs({"x": OneToken(3)}, 5)
        self.head = nn.Sequential(nn.Linear(5, 7), nn.Tanh())

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.inputs(batch)[0]["x"].dense().features)


@pytest.mark.slow
def test_what_is_kept_for_the_backward_pass_is_measured_block_by_block():
    report = cost_report(OnlyLinear(), {"x": torch.randn(11, 3)})
    blocks = {share.name: share.activation_bytes for share in report.blocks}
    assert blocks == {"adapters.x": 0, "heads": 11 * (5 + 7) * 4}
    assert report.activation_bytes == 11 * 12 * 4 == sum(share.activation_bytes or 0 for share in report.modalities)
    assert cost_report(OnlyLinear()).activation_bytes is None
    model, lean = small_perceiver_io_with({}), small_perceiver_io_with({"run_block": recompute})
    kept = [cost_report(one, raw_entries(2)).activation_bytes or 0 for one in (lean, model)]
    assert 0 < kept[0] < kept[1]


def test_a_forward_pass_is_timed_where_the_model_is():
    found = measured(small_perceiver_io(), raw_entries(2))
    assert found.milliseconds > 0 and found.rows == 2 and found.device.startswith("cpu") and found.peak_bytes is None
    report = cost_report(small_perceiver_io(), raw_entries(2), measure=lambda model, batch: replace(found, milliseconds=1.75))
    assert report.measured == replace(found, milliseconds=1.75) and cost_report(small_perceiver_io()).measured is None
    told = of_measured(replace(found, milliseconds=1.75, device="a card", peak_bytes=3_000_000))
    assert told == "A forward pass of 2 rows took 1.75 ms, the median of 5, on a card, and 3 MB were held at most."
    assert report.as_dict()["measured"]["rows"] == 2 and sum("took 1.75 ms" in sentence for sentence in report.summary()) == 1


LARGEST: dict[str, tuple[Adapter, tuple[int, ...], int]] = {
    "patches": (ImagePatches(2, (6, 15), patch=3, num_bands=2), (2, 6, 15), 10),
    "sound": (AudioPatches(50, 1.3, patch=5, num_bands=3), (1, 65), 13),
    "spectrogram": (LogMel(8000, 0.3, patch=(2, 20)), (1, 2400), 32),
    "text": (TextBytes(17, 7), (17,), 17),
    "n-grams": (ByteNgrams(19, 7, buckets=5), (19,), 19),
    "pixels": (ImageMap(nn.Identity(), 3, FourierPositions((5, 7), 2)), (3, 5, 7), 35),
    "a map": (ImageMap(nn.Conv2d(2, 5, 3, stride=3), 5, LearnedGrid((2, 3), 4, 6)), (2, 6, 9), 6),
    "a stem": (ImageMap(ConvStem(3, 5), 5, FourierPositions((4, 5), 3)), (3, 16, 20), 20),
    "frames": (FramePair((5, 7), channels=3, dim=2, num_bands=2), (2, 3, 5, 7), 35),
    "video": (VideoPatches((2, 3, 5), patch=4, num_bands=2), (2, 3, 12, 20), 30),
    "padded": (Padded(SoundPatches(112, num_bands=2), 31), (112, 1), 7),
    "one": (OneToken(11), (11,), 1),
}


@pytest.mark.parametrize("name", LARGEST)
def test_an_adapters_largest_entry_fills_its_positions(name):
    adapter, shape, tokens = LARGEST[name]
    entry = adapter.largest(3)
    assert entry.shape == (3, *shape) and not entry.any()
    assert adapter(entry).features.shape[:2] == (3, tokens)


class Toy(Adapter):
    feature_dim, position_dim = 1, 0

    def forward(self, payload: Tensor, mask: Tensor | None = None) -> Tokens:
        return Tokens(payload[..., None], (payload.shape[1],))


def test_an_adapter_of_ones_own_needs_a_batch_or_its_largest_entry():
    model = Perceiver({"toy": Toy()}, small_encoder(), nn.Linear(DIM, CLASSES))
    with pytest.raises(ValueError, match="Toy does not say how large its entries are: give it a method `largest"):
        cost_report(model)
    assert cost_report(model, {"toy": torch.randn(2, 5)}).largest_difference == 0
    with pytest.raises(ValueError, match="Sequential does not say how large a picture it takes: give a batch"):
        ImageMap(nn.Sequential(), 3, FourierPositions((5, 7), 2)).largest(1)
    with pytest.raises(ValueError, match="Linear has no adapters that say how large its inputs are: give a batch"):
        cost_report(nn.Linear(2, 3))


def test_a_late_fusion_asks_for_the_entries_of_all_its_models():
    model = LateFusion({name: small_perceiver_io({name: adapter}) for name, adapter in three_adapters().items()})
    assert {name: tuple(entry.shape) for name, entry in largest_entries(model).items()} == {
        "image": (1, 2, 6, 15),
        "audio": (1, 1, 65),
        "text": (1, 17),
    }
