"""Pictures that move in a known way: what the flow says is what happened to the pixels."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from perceiver.data import MovedPictures, Rows, Source
from perceiver.data.image.moved import moved


def smooth_picture(rows: int = 23, columns: int = 31) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, rows), torch.linspace(0, 4, columns), indexing="ij")
    return (torch.stack([torch.sin(x + y), torch.cos(x), torch.sin(2 * y)]) * 100 + 128).round().to(torch.uint8)


class Pictures(Source):
    """Two pictures, one of them grey, as a source has them."""

    entries = ("image",)

    def rows(self, split):
        class TwoRows(Rows):
            def __len__(self):
                return 2

            def name(self, index):
                return str(index)

            def row(self, index, draw):
                return {"image": smooth_picture()[: 1 + 2 * index].numpy(), "target": index}

        return TwoRows()


def test_a_picture_that_does_not_move_is_the_same_and_all_of_it_stays():
    first, second, flow, valid = moved(smooth_picture(), torch.eye(2), torch.zeros(2))
    assert torch.equal(first, second) and flow.abs().max() == 0 and valid.all()


def test_a_shift_by_whole_pixels_moves_each_pixel_by_it():
    first, second, flow, valid = moved(smooth_picture(), torch.eye(2), torch.tensor([3.0, -2.0]))
    assert torch.equal(second[:, :-2, 3:], first[:, 2:, :-3])
    assert torch.allclose(flow, torch.tensor([3.0, -2.0]).expand_as(flow), atol=1e-5)
    assert valid[2:, :-3].all() and not valid[:2].any() and not valid[:, -3:].any()


def test_each_pixel_that_is_still_to_be_seen_is_found_where_the_flow_says():
    angle = torch.tensor(0.2)
    turn = 1.1 * torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    first, second, flow, valid = moved(smooth_picture(), turn, torch.tensor([1.3, -0.7]))
    rows, columns = valid.shape
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    there = (torch.stack([x, y], -1) + flow) / torch.tensor([columns - 1, rows - 1]) * 2 - 1
    found = F.grid_sample(second[None].float(), there[None], align_corners=True)[0]
    assert valid.float().mean() > 0.7
    assert (found - first.float()).abs().amax(0)[valid].mean() < 2


def test_rows_are_drawn_from_their_generator_alone_and_move_no_further_than_they_may():
    rows = MovedPictures(Pictures(), degrees=0.0, scale=0.0, shift=0.1).rows("train")
    one, again, other = (rows.row(1, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one["frames"], again["frames"]) and not torch.equal(one["flow"], other["flow"])
    assert one["frames"].shape == (2, 3, 23, 31) and one["frames"].dtype == torch.uint8
    assert rows.row(0, np.random.default_rng(0))["frames"].shape == (2, 3, 23, 31)  # grey becomes three colours
    assert (one["flow"].abs().amax((0, 1)) <= torch.tensor([3.1, 2.3]) + 1e-4).all()


def test_what_cannot_move_is_refused():
    class Texts(Pictures):
        entries = ("text",)

    with pytest.raises(ValueError, match="Texts has text, and pictures are an entry image or video"):
        MovedPictures(Texts())
    with pytest.raises(ValueError, match="degrees=-1"):
        MovedPictures(Pictures(), degrees=-1.0)
