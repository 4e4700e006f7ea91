"""Closed forms: what they say of a layer is what its matrix products are, and Table 1 grows as it says."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from perceiver.attention import Attention
from perceiver.blocks import MLP
from perceiver.cost import forms
from perceiver.cost.grid import Grid
from perceiver.cost.work import Work, product
from perceiver.grid_attention import tiles
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens

ROWS, QUERIES, KEYS = 3, 5, 7
IMAGENET = {"m": 50_176, "c": 261, "n": 512, "d": 1024, "layers": 48, "o": 1, "e": 1024}  # deepmind/vision-perceiver-fourier


def counted(module: nn.Module, *given: torch.Tensor) -> int:
    """What PyTorch's counter finds, with attention as matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*given)
    return counter.get_total_flops()


@pytest.mark.parametrize(("dim", "context_dim", "heads", "qk_dim", "v_dim"), [(11, 13, 1, 8, 16), (16, 16, 2, 16, 32), (9, 5, 3, 24, 48)])
def test_a_layer_of_attention_takes_what_its_products_take(dim, context_dim, heads, qk_dim, v_dim):
    layer = Attention(dim, context_dim, heads=heads, qk_dim=qk_dim, v_dim=v_dim)
    found = counted(layer, torch.randn(ROWS, QUERIES, dim), torch.randn(ROWS, KEYS, context_dim))
    assert found == ROWS * forms.attention(QUERIES, KEYS, dim, context_dim, qk_dim, v_dim)


def test_an_mlp_takes_what_its_products_take():
    assert counted(MLP(11, widening=3), torch.randn(ROWS, QUERIES, 11)) == ROWS * forms.mlp(QUERIES, 11, 3)


def test_segments_take_what_their_tokens_take_side_by_side():
    assert forms.attention(QUERIES, [2, 3, 11], 13) == forms.attention(QUERIES, 16, 13)


def test_the_published_imagenet_model_takes_406_billion_and_a_transformer_525_trillion():
    whole = forms.perceiver_io(**IMAGENET) + forms.linear(1, 1024, 1000)
    assert whole == pytest.approx(406.1e9, rel=5e-4)
    read = forms.encode(50_176, 261, 512, 1024) + forms.mlp(512, 1024)
    assert read == pytest.approx(43.2e9, rel=1e-3)
    transformer = 48 * (forms.self_attention(50_176, 1024) + forms.mlp(50_176, 1024))
    assert transformer == pytest.approx(525e12, rel=1e-3) and transformer / whole == pytest.approx(1293, rel=1e-3)


def test_twice_the_inputs_are_twice_the_read_and_no_other_work():
    once, twice = (forms.perceiver_io(**(IMAGENET | {"m": times * IMAGENET["m"]})) for times in (1, 2))
    fixed = forms.linear(512, 1024, 261) + forms.linear(512, 261, 1024)  # queries and outputs of the read
    assert twice - once == forms.encode(50_176, 261, 512, 1024) - fixed


@pytest.mark.parametrize(
    ("form", "squares"),
    [
        (lambda n: forms.self_attention(n, 11) - 4 * forms.linear(n, 11, 11), 4),
        (lambda n: forms.recurrent(n, 11), 2),
        (lambda n: forms.convolution(n, 11, 3), 2),
        (lambda n: forms.restricted_self_attention(n, 11, 5), 2),
        (lambda n: forms.decode(n, 11, 5, 13) - forms.linear(5, 13, 22), 2),
    ],
)
def test_table_1_grows_with_its_order(form, squares):
    assert form(2 * 101) == squares * form(101)


def test_latents_take_the_same_whatever_is_read():
    assert forms.latent_self_attention(7, 11) == forms.attention(7, 7, 11, 11, 11, 11)


@pytest.mark.parametrize(("n", "layers"), [(1, 0), (2, 1), (3, 1), (27, 3), (28, 4), (3**9, 9), (50_176, 10)])
def test_dilated_convolutions_meet_after_the_logarithm(n, layers):
    assert forms.layers_to_meet(n, 3) == layers


def test_a_product_has_a_gradient_for_each_side_that_learns():
    assert product(2, 3, 5) == Work(60, 120) and product(2, 3, 5, left=False) == Work(60, 60)
    assert (product(2, 3, 5) + product(7, 1, 1, left=False, right=False)).training == 3 * 60 + 14


@pytest.mark.parametrize("channels", [0, 3, 11])
@pytest.mark.parametrize("data", [True, False])
def test_the_sums_over_a_grid_take_what_their_products_take_and_a_few_more(channels, data):
    n, rows, cols = 5, 7, 2
    a, row, col, x = (torch.randn(1, *shape) for shape in ((n, channels), (n, rows), (n, cols), (channels, rows * cols)))
    inv, pairs = torch.rand(1, rows * cols), n * rows * cols
    with FlopCounterMode(display=False) as counter:
        lse, sums, by_row, by_col = tiles.forward(a, row, col, x, inv, None)
    assert counter.get_total_flops() == forms.grid_sums(pairs, channels) - 6 * pairs
    with FlopCounterMode(display=False) as counter:
        tiles.backward((a, row, col, x, inv, None), lse, torch.zeros(1, n), (sums, by_row, by_col), data, True)
    more = 11 + 5 + data
    assert counter.get_total_flops() == forms.grid_sums_backward(pairs, channels, data=data, deviation=True) - more * pairs


def test_tokens_without_data_are_the_same_in_each_row():
    positions = FourierPositions((3, 5), 2)((3, 5))
    empty, full = (Grid(Tokens(torch.zeros(7, 15, c), (3, 5), positions)) for c in (0, 2))
    assert (empty.rows, full.rows) == (1, 7) and (empty.width, full.width) == (10, 12)
