"""Pictures of any dataset: statistics against PyTorch's, and transforms that are a function of their generator."""

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torchvision.transforms import v2

from perceiver.data.augment import Augment
from perceiver.data.image.transforms import Transforms, pixel_statistics
from perceiver.data.rows import Rows


class Listed(Rows):
    """Rows out of a list, which remembers those that were asked for."""

    def __init__(self, rows):
        self.rows = rows
        self.asked = []

    def __len__(self):
        return len(self.rows)

    def name(self, index):
        return f"row {index}"

    def row(self, index, draw):
        self.asked.append(index)
        return self.rows[index]


def pictures(*sizes, channels=3):
    return [{"image": torch.randint(256, (channels, *size), dtype=torch.uint8)} for size in sizes]


@pytest.mark.parametrize("scale", [None, 255], ids=["bytes", "floats"])
def test_the_statistics_are_those_of_all_pixels_together_channel_by_channel(scale):
    rows = pictures((28, 28), (7, 11), (5, 2), (1, 1))
    rows[1]["image"][0] //= 5  # or the channels would all be alike
    rows[0]["image"][2] //= 3
    together = torch.cat([row["image"].flatten(1) for row in rows], 1).double() / 255
    mean, std = pixel_statistics(Listed([{"image": row["image"] / scale} for row in rows] if scale else rows))
    torch.testing.assert_close(torch.tensor(mean), together.mean(1).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.tensor(std), together.std(1, correction=0).float(), rtol=1e-6, atol=0)


def test_a_constant_channel_has_no_deviation():
    mean, std = pixel_statistics(Listed([{"image": torch.full((1, 13, 11), 77, dtype=torch.uint8)}] * 7))
    assert mean == pytest.approx((77 / 255,), abs=1e-12) and std == pytest.approx((0.0,), abs=1e-7)


def test_a_limit_reads_rows_spread_over_all_of_them():
    rows = Listed(pictures(*[(2, 3)] * 23))
    pixel_statistics(rows, limit=5)
    assert len(rows.asked) == 5 and rows.asked[0] == 0 and set(np.diff(rows.asked)) <= {4, 5} and rows.asked[-1] >= 18
    rows.asked.clear()
    pixel_statistics(rows, limit=100)
    assert rows.asked == list(range(23))


def test_rows_without_a_picture_do_not_count_but_some_row_must_have_one():
    some = pictures((5, 2), (3, 7))
    assert pixel_statistics(Listed([{"text": 1}, *some, {"text": 2}])) == pixel_statistics(Listed(some))
    with pytest.raises(ValueError, match="none of 2 rows has a picture under 'photo'"):
        pixel_statistics(Listed(some), entry="photo")
    with pytest.raises(ValueError, match="none of 0 rows"):
        pixel_statistics(Listed([]))


def test_pictures_of_unequal_channels_and_a_limit_of_nothing_are_refused():
    with pytest.raises(ValueError, match="row 1 has 1 channels, and pictures before it 3"):
        pixel_statistics(Listed([*pictures((2, 2)), *pictures((2, 2), channels=1)]))
    with pytest.raises(ValueError, match="limit=0"):
        pixel_statistics(Listed(pictures((2, 2))), limit=0)


RANDOM = [v2.RandomCrop(11, padding=2), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3), v2.RandomErasing(0.7), v2.RandAugment()]


def augmented(image, seed, transforms=RANDOM):
    return Transforms("image", transforms)({"image": image, "target": 3}, np.random.default_rng(seed))["image"]


def test_a_transformed_row_is_a_function_of_its_generator_alone():
    (row,) = pictures((13, 13))
    torch.manual_seed(1)
    first = [augmented(row["image"], seed) for seed in range(7)]
    torch.manual_seed(2)
    assert all(torch.equal(first[seed], augmented(row["image"], seed)) for seed in reversed(range(7)))
    assert all(not torch.equal(first[0], other) for other in first[1:]) and first[0].shape == (3, 11, 11)


def test_the_global_generator_is_left_as_it_was_even_after_an_error():
    (row,) = pictures((13, 13))
    before = torch.get_rng_state()
    augmented(row["image"], 0)
    with pytest.raises(ZeroDivisionError):
        augmented(row["image"], 0, [v2.RandomHorizontalFlip(), v2.Lambda(lambda image: (torch.rand(()), 1 / 0))])
    assert torch.equal(torch.get_rng_state(), before)


def test_two_transforms_of_a_row_draw_different_numbers():
    draw, noise = np.random.default_rng(3), Transforms("image", [v2.Lambda(torch.rand_like)])
    one, two = (noise({"image": torch.zeros(3, 5, 7)}, draw)["image"] for _ in range(2))
    assert not torch.equal(one, two)


def test_transforms_that_work_in_place_leave_the_dataset_as_it_is():
    row = {"image": torch.rand(3, 5, 7), "target": 3}
    before = row["image"].clone()
    after = Transforms("image", [v2.Normalize([0.5], [0.5], inplace=True)])(row, np.random.default_rng(0))
    assert torch.equal(row["image"], before) and not torch.equal(after["image"], before) and after["target"] == 3


def test_a_row_without_the_picture_stays_as_it_is():
    row = {"text": torch.arange(5)}
    assert Transforms("image", RANDOM)(row, np.random.default_rng(0)) is row


def test_transforms_can_be_written_in_yaml(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("""
augment:
  class_path: perceiver.data.image.transforms.Transforms
  init_args:
    entry: photo
    transforms:
      - {class_path: torchvision.transforms.v2.RandomCrop, init_args: {size: 11, padding: 2}}
      - {class_path: torchvision.transforms.v2.ColorJitter, init_args: {brightness: 0.3}}
""")
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--augment", type=Augment)
    augment = parser.instantiate(parser.parse_args(["--config", str(file)])).augment
    assert isinstance(augment, Transforms) and [type(part) for part in augment.transforms] == [v2.RandomCrop, v2.ColorJitter]
    assert all(isinstance(part, nn.Module) for part in augment.transforms)
    assert augment({"photo": torch.zeros(3, 13, 13)}, np.random.default_rng(0))["photo"].shape == (3, 11, 11)
