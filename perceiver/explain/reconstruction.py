"""What an autoencoder wrote, beside what it read: frames to look at, sounds to listen to."""

import base64
import html
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import soundfile
from jaxtyping import Float
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from torch import Tensor

from perceiver.run_folder import RunFolder

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }}
  img {{ width: 100%; image-rendering: pixelated }}
  figure {{ margin: 0 0 2.5rem }}
  audio {{ vertical-align: middle }}
</style>
<h1>{title}</h1>
<p>Each clip went through the latents once. Above: what was read; below: what was written.</p>
{clips}
"""


class Reconstruction(Callback):
    """During a test, keeps the first clips as they were read and as they were written.

    At the end there are `reconstruction/clip_<i>.png`, the frames of both, `clip_<i>_read.wav` and `clip_<i>_written.wav`, and a page with
    all of them, `reconstruction/index.html`, which needs no network. The task is a `perceiver.tasks.Autoencoding`.

    Args:
        clips: how many.
        sample_rate: of the sound, Hz.
        title: of the page.
    """

    def __init__(self, clips: int = 4, *, sample_rate: int = 16_000, title: str = "Through the latents and out again") -> None:
        self.clips = clips
        self.sample_rate = sample_rate
        self.title = title

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets an earlier test."""
        self.kept: list[dict[str, tuple[Tensor, Tensor]]] = []

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keeps some clips of a batch."""
        if len(self.kept) >= self.clips or not trainer.is_global_zero:
            return
        written = pl_module(batch)
        for row in range(len(next(iter(written.values())))):
            if len(self.kept) < self.clips:
                self.kept.append({name: (batch[name][row].cpu(), written[name][row].cpu()) for name in ("image", "audio") if name in written})

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what was kept."""
        if not trainer.is_global_zero:
            return
        place = RunFolder(trainer.default_root_dir).path / "reconstruction"
        place.mkdir(parents=True, exist_ok=True)
        figures = [self._write(place, number, clip) for number, clip in enumerate(self.kept)]
        (place / "index.html").write_text(PAGE.format(title=html.escape(self.title), clips="\n".join(figures)), encoding="utf-8")
        rank_zero_info(f"reconstruction: {place / 'index.html'}")

    def _write(self, place: Path, number: int, clip: dict[str, tuple[Tensor, Tensor]]) -> str:
        parts = []
        if "image" in clip:
            Image.fromarray(filmstrip(*clip["image"])).save(file := place / f"clip_{number}.png")
            parts.append(f'<img alt="frames" src="data:image/png;base64,{_base64(file)}">')
        if "audio" in clip:
            for what, sound in zip(("read", "written"), clip["audio"], strict=True):
                soundfile.write(file := place / f"clip_{number}_{what}.wav", sound.flatten().clamp(-1, 1).numpy(), self.sample_rate)
                parts.append(f'{what} <audio controls src="data:audio/wav;base64,{_base64(file)}"></audio>')
        return f"<figure>{' '.join(parts)}<figcaption>clip {number}</figcaption></figure>"


def filmstrip(read: Float[Tensor, "t c y x"], written: Float[Tensor, "t c y x"]) -> np.ndarray:
    """Frames side by side, those that were read above those that were written: bytes, (2 y, t x, c)."""
    rows = [np.concatenate(list((video.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()), 1) for video in (read, written)]
    return np.concatenate(rows, 0)


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
