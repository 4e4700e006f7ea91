"""What the published models take: as transformers makes it where it makes it, and as the paper says elsewhere."""

import pytest
import torch
import transformers
from einops import rearrange
from torch import nn

from perceiver.pretrained.entries import bytes_of, clip_entries, frame_entries, optical_flow, picture_entries, text_entries
from perceiver.pretrained.entries.frames import starts, tile_weight
from perceiver.tokenizer import MASK
from tests.builders import without_shape_checks
from tests.pretrained.test_published import our_answers, ours, reference

TEXTS = ["This is an incomplete sentence where some words are missing.", "größer", ""]


def test_texts_are_those_of_transformers():
    theirs = transformers.PerceiverTokenizer()(TEXTS, padding="max_length", max_length=71, return_tensors="pt")
    found = text_entries(TEXTS, length=71)
    assert torch.equal(found["text"], theirs.input_ids) and torch.equal(found["text_mask"], theirs.attention_mask.bool())


def test_deepmind_puts_nothing_around_a_text_and_spans_are_counted_in_the_text():
    span = [[(51, 60)], [], []]
    hf, deepmind = (text_entries(TEXTS, span, semantics=which, length=71)["text"] for which in ("hf", "deepmind"))
    assert torch.equal(hf[0, 1:61], deepmind[0, :60])
    assert (hf == MASK).nonzero().tolist() == [[0, i] for i in range(52, 61)]
    assert (deepmind == MASK).nonzero().tolist() == [[0, i] for i in range(51, 60)]


def test_the_likeliest_bytes_come_back_as_bytes():
    entries = text_entries(TEXTS, [[(0, 4)], [], []], length=71)
    scores = nn.functional.one_hot(text_entries(TEXTS, length=71)["text"], 262).float()
    assert bytes_of(scores) == [text.encode() for text in TEXTS]
    assert bytes_of(scores, entries["text"] == MASK) == [b"This", b"", b""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ["four"], "length": 5}, "text 0 takes 6 places of 5"),
        ({"texts": ["four"], "masked": [[(2, 5)]]}, "span 2 to 5 does not lie in text 0, which has 4 bytes"),
        ({"texts": ["a", "b"], "masked": [[]]}, "2 texts and spans for 1"),
        ({"texts": ["a"], "semantics": "jax"}, "choose one of hf, deepmind"),
    ],
)
def test_texts_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        text_entries(**arguments)


@pytest.mark.parametrize("size", [(300, 411), (413, 256), (224, 224), (97, 101)])
def test_pictures_are_those_of_transformers(size):
    picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    theirs = transformers.PerceiverImageProcessor()(picture, return_tensors="pt").pixel_values
    assert torch.allclose(picture_entries([picture])["image"], theirs, atol=1e-5)


def test_deepmind_smooths_nothing_and_crops_the_same_middle():
    picture = torch.randint(0, 256, (3, 512, 640), dtype=torch.uint8)
    hf, deepmind = (picture_entries([picture], semantics=which)["image"] for which in ("hf", "deepmind"))
    assert deepmind.std() > 1.2 * hf.std() and deepmind.mean() == pytest.approx(hf.mean().item(), abs=0.02)


def test_a_picture_that_is_not_one_is_refused():
    with without_shape_checks(), pytest.raises(ValueError, match=r"picture 1 is torch.float32 of \(3, 5, 7\)"):
        picture_entries([torch.zeros(3, 5, 7, dtype=torch.uint8), torch.zeros(3, 5, 7)])


def test_each_pixel_comes_with_its_neighbours_in_rows_columns_and_colours():
    first, second = torch.randint(0, 256, (2, 1, 3, 5, 7), dtype=torch.uint8)
    found = frame_entries(first, second)["frames"]
    assert found.shape == (1, 2, 27, 5, 7)
    patches = rearrange(found, "b t (p q c) y x -> b t p q c y x", p=3, q=3)
    assert torch.allclose(patches[0, 1, 1, 1, :, 2, 3], second[0, :, 2, 3] / 127.5 - 1)
    assert torch.allclose(patches[0, 0, 0, 2, :, 2, 3], first[0, :, 1, 4] / 127.5 - 1)
    assert patches[0, 0, 0, :, :, 0].abs().max() == 0  # above the first row


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "expected"), [(11, 11, 3, [0]), (12, 11, 3, [0, 1]), (30, 11, 3, [0, 8, 16, 19]), (27, 11, 3, [0, 8, 16])]
)
def test_tiles_cover_an_axis_and_the_last_ends_with_it(length, tile, overlap, expected):
    assert list(starts(length, tile, overlap)) == expected
    assert all(b - a <= tile - overlap for a, b in zip(expected, expected[1:], strict=False))


def test_a_pixel_counts_by_its_distance_from_the_edge():
    assert tile_weight(3, 5)[..., 0].tolist() == [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]


def test_flow_of_one_tile_is_the_models_in_pixels_and_of_more_their_weighted_mean():
    model = ours("flow", reference("flow")).eval()
    first, second = torch.randint(0, 256, (2, 2, 3, 11, 19), dtype=torch.uint8)
    whole = our_answers(model, frame_entries(first, second))[""]
    assert torch.allclose(optical_flow(model, first, second, overlap=3), 20 * whole, rtol=1e-4, atol=1e-5)

    nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([10.0, -20.0])
    first, second = torch.randint(0, 256, (2, 2, 3, 29, 37), dtype=torch.uint8)
    found = optical_flow(model, first, second, overlap=3)
    assert found.shape == (2, 29, 37, 2) and torch.allclose(found, torch.tensor([2.0, -4.0]).expand_as(found))


def test_frames_that_do_not_fit_are_refused():
    model = ours("flow", reference("flow"))
    small = torch.zeros(1, 3, 10, 19, dtype=torch.uint8)
    with pytest.raises(ValueError, match="10 pixels cannot be covered by tiles of 11 that share 3"):
        optical_flow(model, small, small, overlap=3)
    with without_shape_checks(), pytest.raises(ValueError, match="give bytes of one shape"):
        frame_entries(small, torch.zeros(1, 3, 9, 19, dtype=torch.uint8))


def test_a_clip_is_squared_scaled_and_labelled():
    model = ours("multimodal", reference("multimodal"))
    frames, side, _ = model.queries["image"].shape
    samples = model.queries["audio"].num_places * model.heads["audio"].out_features
    video = torch.randint(0, 256, (2, frames, 3, 31, 43), dtype=torch.uint8)
    entries = clip_entries(model, video, torch.rand(2, samples) * 2 - 1, torch.tensor([3, 0]))
    assert entries["image"].shape == (2, frames, 3, side, side) and 0 <= entries["image"].min() <= entries["image"].max() <= 1
    assert entries["label"].argmax(1).tolist() == [3, 0] and clip_entries(model, video, torch.rand(2, samples))["label"].sum() == 0
    written = model(entries)
    assert written["image"].shape == entries["image"].shape and written["audio"].shape == entries["audio"].shape
    with pytest.raises(ValueError, match=f"a clip of {frames - 1} frames and {samples} samples: this model reads {frames} frames"):
        clip_entries(model, video[:, 1:], torch.rand(2, samples))
    with pytest.raises(ValueError, match="label 11 is out of range 0 to 10"):
        clip_entries(model, video, torch.rand(2, samples), torch.tensor([3, 11]))
