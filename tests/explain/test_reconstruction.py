"""What an autoencoder wrote stands beside what it read."""

import re

import lightning as L
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch.utils.data import DataLoader

from perceiver.explain import Reconstruction
from perceiver.explain.reconstruction import filmstrip
from perceiver.tasks import Autoencoding
from tests.pretrained.test_published import clips, ours, reference


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*treespec, LeafSpec.*")
def test_the_first_clips_are_drawn_and_can_be_heard(tmp_path):
    task = Autoencoding(ours("multimodal", reference("multimodal")).eval())
    batches = [clips(2) | {"label": torch.zeros(2, 11)} for _ in range(2)]
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    callback = Reconstruction(3, sample_rate=8_000, title="<b>")
    L.Trainer(default_root_dir=tmp_path, accelerator="cpu", callbacks=[callback], **quiet).test(
        task, DataLoader(batches, batch_size=None), verbose=False
    )
    place = tmp_path / "reconstruction"
    kinds = ("{}.png", "{}_read.wav", "{}_written.wav")
    assert {file.name for file in place.iterdir()} == {"index.html"} | {f"clip_{kind.format(i)}" for i in range(3) for kind in kinds}
    with torch.no_grad():
        written = task(batches[1])
    assert np.array_equal(np.asarray(Image.open(place / "clip_2.png")), filmstrip(batches[1]["image"][0], written["image"][0]))
    sound, rate = soundfile.read(place / "clip_2_read.wav", dtype="float32")
    assert rate == 8_000 and torch.allclose(torch.from_numpy(sound), batches[1]["audio"][0, :, 0], atol=1e-4)
    page = (place / "index.html").read_text()
    assert len(re.findall("data:image/png;base64,", page)) == 3 and len(re.findall("data:audio/wav;base64,", page)) == 6
    assert "<b>" not in page and "http" not in page


def test_a_filmstrip_has_what_was_read_above_what_was_written():
    read, written = torch.rand(2, 5, 3, 4, 6)
    strip = filmstrip(read, written * 3 - 1)
    assert strip.shape == (8, 30, 3) and strip.dtype == np.uint8
    assert np.allclose(strip[:4, 6:12], read[1].permute(1, 2, 0) * 255, atol=0.51)
    assert np.allclose(strip[4:, 24:], (written[4] * 3 - 1).clamp(0, 1).permute(1, 2, 0) * 255, atol=0.51)
