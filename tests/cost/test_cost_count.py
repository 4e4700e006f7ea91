"""The count: closed forms are what the counter finds, for every model and both ways; rows sum up to totals."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import perceiver.tokens
from perceiver.adapters import TextBytes
from perceiver.attention import Attention
from perceiver.blocks import MLP, SelfBlock, recompute
from perceiver.cost import cost_report
from perceiver.encoder import Encoder
from perceiver.models import Perceiver
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics
from tests.builders import (
    CLASSES,
    CONTEXT_DIM,
    DIM,
    MODELS,
    NAMES,
    compact_batch,
    presence_table,
    raw_entries,
    small_encoder,
    small_perceiver_io,
    three_adapters,
)
from tests.cost.counted_models import EVERY, LONG, REST, TWO_WAYS, multitask, pixels, pixels_with, small_perceiver_io_with


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in EVERY])
def test_closed_forms_are_what_the_counter_finds_and_rows_sum_up(name):
    model = EVERY[name]()
    report = cost_report(model)
    assert {key.split(",")[0] for key in report.agreement} == {"dense", "factored"}
    for key, one in report.agreement.items():
        assert one.closed > 0 and one.difference < 0.01, (key, one)
        assert one.closed == one.counted or "training" in key  # forward passes to the last operation
    assert (report.factored.forward != report.dense.forward) == (name in TWO_WAYS)
    assert report.parameters == sum(p.numel() for p in model.parameters())
    for shares in (report.blocks, report.modalities):
        assert sum(share.parameters for share in shares) == report.parameters
        assert sum(share.shared_parameters for share in shares) == report.shared_parameters
        for way in ("dense", "factored"):
            for what in ("forward", "training", "attention_bytes"):
                assert sum(getattr(getattr(share, way), what) for share in shares) == getattr(getattr(report, way), what)
    assert {share.name for share in report.modalities} == {REST} | {key for m in model.modules() for key in getattr(m, "adapters", ())}


@pytest.mark.slow
@pytest.mark.parametrize("table", [[1, 2, 4, 0, 7], [2, 2, 3, 3, 2]])
@pytest.mark.parametrize("name", MODELS)
def test_rows_that_lack_a_modality_are_counted_as_they_run(name, table):
    report = cost_report(MODELS[name](), compact_batch(raw_entries(), presence_table(table)))
    assert report.largest_difference == 0 and report.sizes.rows == 5
    assert {share.name for share in report.modalities} == {NAMES[i] for i in range(3) if any(code >> i & 1 for code in table)} | {REST}


@pytest.mark.slow
def test_a_grid_is_asked_once_by_latents_that_are_the_same_in_each_row():
    """And once for each row at the second read, where they differ. One of the three rows has no picture."""
    has = torch.tensor([True, False, True])
    batch = {"image": torch.rand(2, 3, 32, 32), "image_present": has, "text": torch.randint(6, 262, (3, 17))}
    report = cost_report(pixels(), batch)
    assert report.agreement["factored, forward"].difference == report.agreement["dense, forward"].difference == 0
    assert report.largest_difference < 0.01 and report.factored.forward < report.dense.forward


@pytest.mark.slow
def test_a_batch_of_several_tasks_asks_each_row_its_own():
    batch = raw_entries(5) | {"dataset": torch.tensor([1, 0, 1, 1, 0])}
    model = multitask()
    first, mixed = cost_report(model), cost_report(model, batch)
    assert mixed.largest_difference == 0
    head = {share.name: share.dense.forward for share in mixed.blocks}
    assert (head["heads.one"], head["heads.other"]) == (2 * 2 * 2 * 13 * 2, 3 * 2 * 3 * 13 * 3)
    assert {share.name: share.dense.forward for share in first.blocks}.get("heads.other", 0) == 0


def test_training_is_three_times_the_forward_pass_where_all_that_is_multiplied_learns():
    report = cost_report(Perceiver({"text": TextBytes(17, 7)}, small_encoder(), nn.Linear(DIM, CLASSES)))
    assert report.dense.training == 3 * report.dense.forward
    assert report.agreement["dense, training"].counted == 3 * report.agreement["dense, forward"].counted


@pytest.mark.slow
def test_what_is_frozen_takes_no_gradients():
    model = small_perceiver_io()
    learning = cost_report(model)
    model.encoder.requires_grad_(False)
    partly = cost_report(model)
    model.requires_grad_(False)
    frozen = cost_report(model)
    assert frozen.dense.training == frozen.dense.forward == learning.dense.forward < partly.dense.training < learning.dense.training
    assert frozen.largest_difference == partly.largest_difference == 0
    grid = pixels()
    grid.encoder.requires_grad_(False)
    assert cost_report(grid).largest_difference < 0.01


@pytest.mark.slow
def test_blocks_that_are_computed_again_are_counted_again():
    plain, again = (cost_report(small_perceiver_io_with(run)) for run in ({}, {"run_block": recompute}))
    assert plain.dense.forward == again.dense.forward
    assert plain.dense.training < again.dense.training < plain.dense.training + plain.dense.forward
    assert again.largest_difference == 0


def test_twice_the_inputs_are_twice_the_read_and_leave_the_rest_alone():
    def of(length: int) -> dict[str, int]:
        model = Perceiver({"text": TextBytes(length, 7)}, small_encoder(), nn.Linear(DIM, CLASSES))
        report = cost_report(model)
        shares = {share.name: share.dense.forward for share in (*report.blocks, *report.modalities)}
        return shares | {"transformer": 0 if report.transformer is None else report.transformer.computed.forward}

    once, twice = of(19), of(38)
    assert twice["text"] == 2 * once["text"] > 0 and twice["adapters.text"] == 2 * once["adapters.text"] > 0
    for block in ("stacks.0.0", "heads", REST):
        assert twice[block] == once[block]
    assert 2 * once["transformer"] < twice["transformer"] < 4 * once["transformer"]


@pytest.mark.slow
def test_an_unseen_grid_takes_less_and_holds_no_soft_weights():
    report = cost_report(pixels())
    image = next(share for share in report.modalities if share.name == "image")
    assert image.factored.forward < image.dense.forward and image.factored.kv_share == 0 < image.dense.kv_share
    reads, heads, latents = 2, 2, 3
    assert image.factored.attention_bytes == 0 and image.dense.attention_bytes == reads * heads * latents * 1024 * 4
    text = next(share for share in report.modalities if share.name == "text")
    assert text.dense.attention_bytes == text.factored.attention_bytes == reads * heads * latents * 17 * 4


@pytest.mark.slow
def test_a_block_that_runs_twice_shares_its_parameters_and_follows_itself():
    report = cost_report(pixels(num_layers=1))
    blocks = {share.name: share for share in report.blocks}
    assert (blocks["stacks.0.0"].runs, blocks["cross_attends.0"].runs, blocks["decoder"].runs) == (2, 1, 1)  # queries in pieces are one step
    assert report.shared_parameters == blocks["stacks.0.0"].shared_parameters == blocks["stacks.0.0"].parameters
    assert report.sequential_blocks == 2 + 2 + 1 and report.max_path_hops == 2
    assert report.bottleneck_ratio == (1024 + 17) * CONTEXT_DIM / (3 * DIM) == pytest.approx(sum(s.bottleneck_ratio or 0 for s in report.modalities))


@pytest.mark.slow
def test_models_that_are_fused_late_run_side_by_side_and_belong_to_their_modality():
    one = {name: cost_report(small_perceiver_io({name: adapter})) for name, adapter in three_adapters().items()}
    report = cost_report(MODELS["LateFusion"]())
    found = {share.name: share for share in report.modalities}
    assert {name: found[name].dense.forward for name in NAMES} == {name: one[name].dense.forward for name in NAMES}
    assert found[REST].dense.forward == found[REST].parameters == 0 and report.transformer is None
    assert report.sequential_blocks == one["image"].sequential_blocks


def test_a_transformer_over_all_inputs_has_the_same_layers_for_each_token():
    dim, m = 16, 19
    block = partial(SelfBlock, heads=2, mlp=partial(MLP, widening=3))
    model = Perceiver({"text": TextBytes(m, 7)}, Encoder(5, dim, dim, num_layers=4, self_block=block), nn.Linear(dim, CLASSES))
    report = cost_report(model)
    assert report.transformer is not None
    layer = 8 * m * dim * dim + 4 * m * m * dim + 4 * m * 3 * dim * dim
    projection = next(share for share in report.blocks if share.name == "adapters.text").dense.forward
    assert report.transformer.computed.forward == 4 * layer + projection + 2 * dim * CLASSES
    assert report.transformer.computed.attention_bytes == 4 * 2 * m * m * 4
    assert report.transformer.times == report.transformer.computed.forward / report.dense.forward
    missing = sum(share.parameters for share in report.blocks if share.name in ("latents", "cross_attends.0"))
    assert report.transformer.parameters == report.parameters - missing


def test_a_narrower_token_takes_one_map_more_in_a_transformer():
    report = cost_report(Perceiver({"text": TextBytes(19, 7)}, small_encoder(), nn.Linear(DIM, CLASSES)))
    missing = sum(share.parameters for share in report.blocks if share.name in ("latents", "cross_attends.0"))
    assert report.transformer is not None and report.transformer.parameters == report.parameters - missing + (CONTEXT_DIM + 1) * DIM


class Odd(nn.Module):
    """A head that has no closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(101, DIM))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def test_a_layer_without_a_closed_form_is_told_and_not_passed_over():
    report = cost_report(Perceiver(three_adapters(), small_encoder(), Odd()))
    one = report.agreement["dense, forward"]
    assert one.counted - one.closed == 2 * 101 * DIM and not one.agrees
    assert "DISAGREE (dense, training)" in report.summary()[-1] and f"{report.agreement['dense, training'].counted:,}" in report.summary()[-1]
    assert report.as_dict()["agreement"]["dense, forward"]["agrees"] is False
    assert "agree" in cost_report(small_perceiver_io()).summary()[-1]


class Tilted(Attention):
    """A class of one's own."""


@pytest.mark.parametrize("kind", ["Tilted", "UniformAttention", "ConstantAttention", "NormedAttention"])
def test_other_kinds_of_attention_are_counted_as_they_run(kind):
    known = {"Tilted": Tilted}
    if kind != "Tilted":
        module = pytest.importorskip("perceiver.qk_norm" if kind == "NormedAttention" else "perceiver.fixed_attention")
        known[kind] = getattr(module, kind)
    report = cost_report(pixels_with(known[kind]))
    assert all(one.difference < 0.01 for one in report.agreement.values()), report.agreement


@pytest.mark.slow
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.filterwarnings("ignore:Could not find a config file")  # peft's, of models that are not on the hub
def test_small_matrices_of_lora_are_counted_beside_the_large_ones(joined, monkeypatch):
    pytest.importorskip("peft")
    from perceiver.tasks import LoRA

    monkeypatch.setattr(perceiver.tokens, "LARGE_GRID", 10**9 if joined else 1)
    model = pixels_with(Attention)
    before = cost_report(model)
    LoRA(rank=3).prepare(model)
    after = cost_report(model)
    assert after.dense.forward > before.dense.forward and after.agreement["dense, forward"].difference == 0
    assert all(one.difference < 0.01 for one in after.agreement.values()), after.agreement


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_agrees_and_the_imagenet_model_takes_406_billion(name):
    with torch.device("meta"):
        model = architecture(PUBLISHED[name].architecture).build(PUBLISHED[name], semantics("hf"))
    report = cost_report(model)
    assert report.agreement["dense, forward"].difference == 0 and report.largest_difference < 1e-4
    if name == "deepmind/vision-perceiver-fourier":
        assert report.parameters == 48_440_627
        assert report.dense.forward == pytest.approx(406e9, rel=0.01)  # the closed forms of test_cost_forms.py: 406.1
        assert report.transformer is not None and report.transformer.times == pytest.approx(1293, rel=0.01)
        assert report.bottleneck_ratio == pytest.approx(50_176 * 261 / (512 * 1024))
