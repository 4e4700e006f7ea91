"""A linear map is one, however wide; and two of them, one after another, are one."""

import pytest
import torch
from torch import nn

from perceiver.linear import Linear, is_plain
from perceiver.models.autoencoder import one_after_another


@pytest.mark.parametrize(("rows", "out"), [(521, 131), (521, 128), (521, 7), (11, 131)])
def test_a_wide_product_gives_what_pytorch_gives_and_so_do_its_gradients(rows, out):
    ours, theirs = Linear(13, out), nn.Linear(13, out)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, rows, 13, requires_grad=True)
    found = []
    for layer in (ours, theirs):
        y = layer(x)
        torch.manual_seed(1)
        found.append([y, *torch.autograd.grad((y * torch.randn(y.shape)).sum(), [x, *layer.parameters()])])
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape and (one - other).norm() <= 1e-6 * other.norm()


def test_rows_are_cut_to_their_width_where_they_were_wider(monkeypatch):
    widths = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr("perceiver.linear.F.linear", lambda x, weight, bias: widths.append(len(weight)) or linear(x, weight, bias))
    assert Linear(13, 131)(torch.randn(521, 13)).shape == (521, 131) and widths == [144]


@pytest.mark.parametrize(("places", "channels"), [(17, 3), (2, 3), (17, 11)])
def test_two_maps_are_one_where_what_comes_out_is_narrow(places, channels):
    first, second = Linear(13, 7), Linear(7, channels)
    x = torch.randn(2, places, 13)
    calls = []
    first.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(one_after_another(x, first, second), second(first(x)), rtol=0, atol=1e-5)
    assert len(calls) == (1 if channels == 3 and places == 17 else 2)


def test_only_a_map_that_is_nothing_but_its_weight_is_plain():
    class Louder(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert is_plain(nn.Linear(3, 5)) and is_plain(Linear(3, 5)) and not is_plain(Louder(3, 5)) and not is_plain(nn.Identity())
