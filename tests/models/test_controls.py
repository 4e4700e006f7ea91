"""Controls: each is what it says and no more, reads what a row has and nothing else, and the ladder's have a like number of parameters."""

import functools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from builders import (
    BYTES,
    CLASSES,
    CONTEXT_DIM,
    DIM,
    NAMES,
    PATCHES,
    ROWS,
    bounded,
    compact_batch,
    gradients,
    presence_table,
    randomise,
    raw_entries,
    three_adapters,
    whole_batch,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.nn import functional as F

import perceiver
from perceiver.attention import Attention
from perceiver.blocks import CrossBlock, SelfBlock
from perceiver.decoder import Decoder
from perceiver.description import build, describe
from perceiver.encoder import Encoder
from perceiver.fixed_attention import ConstantAttention, UniformAttention
from perceiver.models import ConcatMLP, GatedFusion, LowRankFusion, Majority, MeanPool, PerceiverIO, TransformerBaseline
from perceiver.models.controls.pooling import mean_tokens
from perceiver.qk_norm import NormedAttention
from perceiver.queries import LearnedQueries
from perceiver.registers import Registers
from perceiver.tasks import Classification
from perceiver.tasks.optim import param_groups

HIDDEN, RANK, WIDTH = 19, 3, 22
PLACES = {"image": 10, "audio": 7, "text": 23}


def io_with(attention: type[Attention] = Attention, registers: int = 0) -> PerceiverIO:
    """A Perceiver IO with that attention wherever there is one; two reads, the second of which asks with what was read."""
    cross, block = partial(CrossBlock, heads=1, attention=attention), partial(SelfBlock, heads=2, attention=attention)
    encoder = Encoder(
        3, DIM, CONTEXT_DIM, cross_attend=(0, 1), self_attend=(0, 0), num_layers=1, cross_block=cross, self_block=block,
        registers=Registers(registers, CONTEXT_DIM) if registers else None,
    )  # fmt: skip
    return PerceiverIO(three_adapters(), encoder, LearnedQueries(1, 13), Decoder(13, DIM, cross_block=cross), nn.Linear(13, CLASSES))


CONTROLS: dict[str, Callable[[], nn.Module]] = {
    "majority": lambda: Majority(NAMES, CLASSES),
    "concat": lambda: ConcatMLP(three_adapters(), CONTEXT_DIM, PLACES, HIDDEN, CLASSES),
    "gated": lambda: GatedFusion(three_adapters(), CONTEXT_DIM, HIDDEN, CLASSES),
    "low_rank": lambda: LowRankFusion(three_adapters(), CONTEXT_DIM, HIDDEN, CLASSES, rank=RANK),
    "transformer": lambda: TransformerBaseline(three_adapters(), WIDTH, CLASSES, num_layers=2, self_block=partial(SelfBlock, heads=2)),
    "uniform_attention": lambda: io_with(UniformAttention),
    "constant_attention": lambda: io_with(ConstantAttention),
    "normed_attention": lambda: io_with(NormedAttention),
    "registers": lambda: io_with(registers=2),
}
LONG = {"registers", "constant_attention", "uniform_attention", "normed_attention"}
every_control = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CONTROLS])
tables = st.lists(st.integers(1, 7), min_size=ROWS, max_size=ROWS).map(presence_table)


@functools.cache
def built(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(11)
    return CONTROLS[name]().eval().to(dtype)


def answers(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(batch).reshape(-1, CLASSES)


def close(a: Tensor, b: Tensor) -> None:
    """Equal to rounding, in float64."""
    assert a.dtype == b.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@every_control
@bounded
@given(tables, st.sampled_from([math.nan, math.inf, 1e30]))
def test_what_is_absent_or_masked_changes_no_bit_of_an_answer_or_a_gradient(name: str, table: Tensor, junk: float) -> None:
    model, entries, found = built(name, torch.float32), raw_entries(), []
    for batch in (whole_batch(entries, table), whole_batch(entries, table, junk)):
        model.zero_grad()
        out = model(batch)
        out.square().sum().backward()
        found.append({"out": out.detach(), **gradients(model)})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert found[1][key].isfinite().all() and torch.equal(value, found[1][key]), key


@every_control
@bounded
@given(tables)
def test_a_row_is_answered_as_in_a_batch_where_nobody_has_what_it_lacks(name: str, table: Tensor) -> None:
    model, entries = built(name), raw_entries(dtype=torch.float64)
    out = answers(model, whole_batch(entries, table, math.nan))
    close(answers(model, compact_batch(entries, table)), out)
    for i in range(len(NAMES)):
        lacking, others = ~table[:, i], table.clone()
        others[:, i] = False
        if lacking.any() and others.any():
            close(answers(model, compact_batch(entries, others))[lacking], out[lacking])


@every_control
def test_a_row_with_nothing_is_finite_and_leaves_the_others_alone(name: str) -> None:
    model, entries, table = built(name), raw_entries(dtype=torch.float64), presence_table([7, 0, 2, 5, 0])
    out = answers(model, whole_batch(entries, table, math.nan))
    assert out.isfinite().all()
    table[1] = True
    rest = [0, 2, 3, 4]
    close(answers(model, whole_batch(entries, table, math.nan))[rest], out[rest])


@every_control
def test_a_saved_control_is_read_again_with_the_same_answers(name: str, tmp_path: Path) -> None:
    model = built(name, torch.float32)
    again = build(json.loads(json.dumps(describe(model))))
    assert type(again) is type(model) and describe(again) == describe(model)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    batch = raw_entries()
    assert torch.equal(perceiver.from_pretrained(tmp_path)(batch), model(batch))


@every_control
def test_every_weight_of_a_control_learns(name: str) -> None:
    torch.manual_seed(3)
    model = CONTROLS[name]()
    F.cross_entropy(answers(model, raw_entries()), torch.arange(ROWS)).backward()
    found = gradients(model)
    silent = {key for key, _ in model.named_parameters() if key not in found or not found[key].any()}
    # A bias of keys adds the same to all scores of a query, unless a norm follows it; where weights are fixed, nobody asks with what queries hold.
    useless = (".to_k.bias", ".norm_x.weight", ".norm_x.bias") if name in ("uniform_attention", "constant_attention") else (".to_k.bias",)
    assert {key for key in silent if not key.endswith(useless)} == set()


def test_the_majority_holds_the_shares_of_the_classes_and_reads_nothing() -> None:
    model, target = Majority(NAMES, 3), torch.tensor([0, 1, 1, 2, 1])
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(model(raw_entries()), target)
        found.backward()
        return found

    optimizer.step(loss)  # type: ignore[arg-type]
    assert torch.allclose(model(raw_entries()).softmax(-1), torch.tensor([0.2, 0.6, 0.2]).expand(ROWS, -1), atol=1e-4)
    with pytest.raises(ValueError, match="holds none of image, audio, text, only video"):
        model({"video": torch.zeros(2)})


def test_the_majority_names_the_commonest_class_of_each_dataset() -> None:
    torch.manual_seed(2)
    dataset = torch.tensor([0] * 5 + [1] * 7 + [2] * 3)
    target = torch.tensor([4, 4, 4, 1, 0] + [2, 2, 2, 2, 1, 1, 4] + [0, 0, 3])
    model = Majority(("image",), CLASSES, num_datasets=3)
    task = Classification(model, CLASSES, datasets=("a", "b", "c"))
    batch = {"image": torch.rand(15, 2), "dataset": dataset, "target": target}
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = task.train_loss(batch)
        found.backward()
        return found

    optimizer.step(loss)  # type: ignore[arg-type]
    assert param_groups(model, 0.1)[0]["weight_decay"] == 0  # what decays would no longer be a share
    right = task.requires_grad_(False).judge(batch)[1]
    assert [float(right[dataset == d].mean()) for d in range(3)] == pytest.approx([3 / 5, 4 / 7, 2 / 3])
    shares = torch.stack([torch.bincount(target[dataset == d], minlength=CLASSES) / (dataset == d).sum() for d in range(3)])
    assert torch.allclose(model(batch).softmax(-1), shares[dataset], atol=1e-3)
    assert torch.equal(model(batch | {"image": torch.rand(15, 2)}), model(batch))


def test_a_dataset_that_the_majority_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="dataset 3 of a row, and num_datasets=3 knows 0 to 2"):
        Majority(("image",), CLASSES, num_datasets=3)({"image": torch.zeros(2, 1), "dataset": torch.tensor([2, 3])})
    with pytest.raises(ValueError, match="num_datasets=0"):
        Majority(("image",), CLASSES, num_datasets=0)


def test_side_by_side_tokens_have_an_order_and_their_mean_has_none() -> None:
    batch = {"text": torch.randint(6, 262, (ROWS, BYTES))}
    turned = {"text": batch["text"].flip(1)}
    mean = MeanPool(three_adapters(), CONTEXT_DIM, HIDDEN, CLASSES).double()
    assert torch.allclose(mean(batch), mean(turned), atol=1e-12)
    assert (built("concat")(batch) - built("concat")(turned)).abs().amax(1).min() > 1e-3


def test_only_the_first_tokens_are_read_side_by_side() -> None:
    model, batch = built("concat"), {"audio": torch.rand(ROWS, 1, 65, dtype=torch.float64)}
    kept = PLACES["audio"] * 5  # samples of a patch
    assert PLACES["audio"] < PATCHES
    behind, inside = {"audio": batch["audio"].clone()}, {"audio": batch["audio"].clone()}
    behind["audio"][..., kept:] += 1
    inside["audio"][..., kept - 1] += 1
    assert torch.equal(model(behind), model(batch)) and not torch.isclose(model(inside), model(batch)).any()


@pytest.mark.parametrize("wrong", [{"image": 3, "audio": 5}, {**PLACES, "video": 2}, {**PLACES, "text": 0}])
def test_a_number_of_tokens_is_needed_for_each_modality_and_nothing_else(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give a number of at least 1 for each of image, audio, text"):
        ConcatMLP(three_adapters(), CONTEXT_DIM, wrong, HIDDEN, CLASSES)


def test_gates_are_one_in_sum_over_the_modalities_that_a_row_has() -> None:
    torch.manual_seed(5)
    model = GatedFusion(three_adapters(), CONTEXT_DIM, HIDDEN, CLASSES).double()
    seen: list[Tensor] = []
    model.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for value in model.values.values():
        nn.init.zeros_(value.weight), nn.init.constant_(value.bias, 0.7)  # type: ignore[arg-type]
    model(whole_batch(raw_entries(dtype=torch.float64), presence_table([7, 1, 6, 0, 5]), math.nan))
    expected = torch.full((ROWS, HIDDEN), math.tanh(0.7), dtype=torch.float64)
    expected[3] = 0  # nothing, and no gate
    close(seen[0], expected)


def test_the_gates_of_a_modality_depend_on_all_others() -> None:
    model, entries = built("gated"), raw_entries(dtype=torch.float64)
    shares = []
    for image in (entries["image"], torch.rand_like(entries["image"])):
        means = mean_tokens(model.inputs, *model.inputs(entries | {"image": image}))  # type: ignore[arg-type, operator]
        scores = model.gates(torch.cat([model.norms[name](mean) for name, (mean, _) in means.items()], -1)).unflatten(-1, (3, -1))  # type: ignore[index, operator]
        shares.append(scores.softmax(1)[:, 1])
    assert not torch.isclose(*shares).any()


def test_low_rank_fusion_is_one_map_of_the_products_of_all_modalities() -> None:
    model, table = CONTROLS["low_rank"]().double(), presence_table([7, 3, 5, 6, 2])
    randomise(model)  # a norm with a bias makes something of nothing, which must not be read
    seen: list[Tensor] = []
    handle = model.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[union-attr]
    batch = whole_batch(raw_entries(dtype=torch.float64), table, math.nan)
    model(batch)
    handle.remove()
    vectors, factors = [], []
    for name, (mean, has) in mean_tokens(model.inputs, *model.inputs(batch)).items():  # type: ignore[arg-type, operator]
        vectors.append(torch.cat([model.norms[name](mean) * has[:, None], torch.ones(ROWS, 1)], -1))  # type: ignore[index]
        factor = model.factors[name]  # type: ignore[index]
        factors.append(torch.cat([factor.weight, factor.bias[:, None]], -1).unflatten(0, (RANK, HIDDEN)))
    tensor = torch.einsum("rhi,rhj,rhk->hijk", *factors)
    close(seen[0], torch.einsum("hijk,bi,bj,bk->bh", tensor, *vectors))
    matrix = tensor.flatten(2)[0].detach()
    assert torch.linalg.matrix_rank(matrix) == RANK


def test_a_rank_is_needed() -> None:
    with pytest.raises(ValueError, match="rank=0"):
        LowRankFusion(three_adapters(), CONTEXT_DIM, HIDDEN, CLASSES, rank=0)


def test_a_token_of_one_modality_changes_what_a_transformer_makes_of_another() -> None:
    model, entries = built("transformer"), raw_entries(dtype=torch.float64)
    seen: list[Tensor] = []
    handle = model.blocks[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[index, union-attr]
    model(entries)
    model(entries | {"image": entries["image"] + torch.rand_like(entries["image"])})
    handle.remove()
    text = slice(-BYTES, None)
    assert not torch.isclose(seen[0][:, text], seen[1][:, text]).all(-1).any()


@pytest.mark.slow
def test_the_rungs_of_the_ladder_have_about_as_many_parameters_as_the_full_model() -> None:
    ladder = yaml.safe_load((Path(__file__).parents[2] / "configs/ladder.yaml").read_text())
    parser = ArgumentParser()
    parser.add_argument("--models", type=dict[str, nn.Module])
    models = {"full": ladder["model"]["init_args"]["model"]} | ladder["controls"]
    built = parser.instantiate(parser.parse_object({"models": models})).models
    number = {name: sum(p.numel() for p in model.parameters()) for name, model in built.items()}
    assert number["constant_attention"] == number["full"] and number["majority"] == 4 * 21
    for name in ("mean_pool", "concat", "gated", "low_rank", "transformer", "only_image", "only_audio", "only_text"):
        assert 0.85 < number[name] / number["full"] < 1.05, name
    # The maps of queries and keys of nine attentions of 64 x 64, with their biases.
    assert number["full"] - number["uniform_attention"] == 9 * 2 * (64 * 64 + 64)
    assert number["late_fusion"] / number["full"] < 1.7
