"""With the published weights, the published numbers: slices that transformers' own slow tests hold.

    python -m pytest -m network

Where this was built there was no network, so they never ran.
"""

import urllib.request

import pytest
import torch
from torchvision.io import decode_image

import perceiver
from perceiver.pretrained.entries import bytes_of, picture_entries, text_entries
from perceiver.tokenizer import MASK

pytestmark = pytest.mark.network
CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"


def test_language():
    model = perceiver.from_pretrained("deepmind/language-perceiver")
    entries = text_entries(["This is an incomplete sentence where some words are missing."], [[(51, 60)]])
    with torch.no_grad():
        scores = model(entries)
    expected = [[-10.8609, -10.7651, -10.9187], [-12.1689, -11.9389, -12.1479], [-12.1518, -11.9707, -12.2073]]
    assert torch.allclose(scores[0, :3, :3], torch.tensor(expected), atol=1e-4)
    assert bytes_of(scores, entries["text"] == MASK) == [b" missing."]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("learned", [-1.1652, -0.1992, -0.7520]), ("fourier", [-1.1295, -0.2832, 0.3226]), ("conv", [-1.1186, 0.0554, 0.0897])],
)
def test_pictures(name, expected):
    with urllib.request.urlopen(CATS) as answer:
        picture = decode_image(torch.frombuffer(bytearray(answer.read()), dtype=torch.uint8))
    with torch.no_grad():
        scores = perceiver.from_pretrained(f"deepmind/vision-perceiver-{name}")(picture_entries([picture]))
    assert torch.allclose(scores[0, :3], torch.tensor(expected), atol=1e-4)


def test_the_others_load_and_are_finite():
    flow = perceiver.from_pretrained("deepmind/optical-flow-perceiver")
    clip = perceiver.from_pretrained("deepmind/multimodal-perceiver")
    places = {"image": torch.arange(7), "audio": torch.arange(5)}
    batch = {"image": torch.rand(1, 16, 3, 224, 224), "audio": torch.zeros(1, 30720, 1), "label": torch.zeros(1, 700)}
    with torch.no_grad():
        assert all(torch.isfinite(value).all() for value in clip(batch, places).values())
        assert torch.isfinite(flow({"frames": torch.rand(1, 2, 27, 368, 496) * 2 - 1})).all()
