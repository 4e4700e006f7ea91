"""How parameters start."""

import pytest
import torch

from perceiver.initialization import linear, small_array, waves


def test_a_linear_map_keeps_most_of_the_variance_of_its_input() -> None:
    torch.testing.assert_close(linear(512, 499)(torch.randn(97, 512)).var().item(), 0.77, rtol=0.05, atol=0)


def test_arrays_start_small() -> None:
    assert small_array(31, 37).abs().max() <= 0.04


@pytest.mark.parametrize("dim", [6, 7])
def test_in_a_table_of_waves_neighbours_are_alike_and_others_are_not(dim: int) -> None:
    table = waves(61, 96).detach()
    alike = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1)
    near, far = alike.diagonal(1), torch.stack([alike[i, j] for i in range(61) for j in range(61) if abs(i - j) > 12])
    assert near.min() > far.max()
    assert table.std() == pytest.approx(0.5, abs=0.02) and waves(61, dim).shape == (61, dim) and waves(1, dim).isfinite().all()
