"""Views: how a page shows the raw input of a modality, small enough to be mailed.

Letters: c t y x channels, frames, rows and columns of pictures, s samples of a sound, l bytes.
"""

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import soundfile
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters import AudioPatches, ImagePatches, LogMel, TextBytes
from perceiver.adapters.image_map import FramePair, ImageMap
from perceiver.adapters.padded import Padded, SoundPatches, VideoPatches
from perceiver.tokenizer import decode

Plain = dict[str, Any]
SIDE, FRAME_SIDE, FRAMES = 96, 64, 6  # of a picture and of a frame of a video, in pixels; frames that are shown
MOMENTS, STRETCHES = 200, 240  # columns of a spectrogram, and of a waveform
SAMPLES = 32_000  # of a sound that is played
MOST_WEIGHTS = 56  # along an axis of a map


def plain_adapter(adapter: nn.Module) -> nn.Module:
    """The adapter that knows the raw entry, inside one that fills its tokens up."""
    return adapter.adapter if isinstance(adapter, Padded) else adapter


def view_of(adapter: nn.Module) -> str:
    """How a page shows the input of an adapter."""
    inner = plain_adapter(adapter)
    for kind, view in (
        ((ImagePatches, ImageMap), "picture"),
        ((VideoPatches, FramePair), "video"),
        (LogMel, "sound"),
        ((AudioPatches, SoundPatches), "wave"),
        (TextBytes, "text"),
    ):
        if isinstance(inner, kind):
            return view
    return "tokens"


def show(adapter: nn.Module, entry: Tensor) -> Plain:
    """A raw entry in the form that `perceiver.explain.page` describes for its view."""
    return VIEWS[view_of(adapter)](plain_adapter(adapter), entry.cpu())


def picture(adapter: nn.Module, image: Shaped[Tensor, "c y x"]) -> Plain:
    """Pixels as bytes, grey or red-green-blue; large ones smaller."""
    pixels = shrunk(visible(image), SIDE)
    return {"rows": pixels.shape[1], "columns": pixels.shape[2], "channels": len(pixels), "bytes": packed(pixels.permute(1, 2, 0))}


def video(adapter: nn.Module, frames: Shaped[Tensor, "t c y x"]) -> Plain:
    """Some frames, evenly spaced, like pictures."""
    chosen = torch.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().long()
    pixels = torch.stack([shrunk(visible(frames[i]), FRAME_SIDE) for i in chosen])
    return {"frames": len(pixels), "rows": pixels.shape[2], "columns": pixels.shape[3], "channels": pixels.shape[1]} | {
        "bytes": packed(pixels.permute(0, 2, 3, 1))
    }


def sound(adapter: LogMel, wave: Float[Tensor, "1 s"]) -> Plain:
    """The spectrogram that the adapter makes of it, and a sound to play."""
    frames = adapter.spectrogram(wave[None].to(next(adapter.buffers()).device))[0].cpu()
    factor = math.ceil(len(frames) / MOMENTS)
    frames = F.avg_pool1d(frames.T[None], factor, ceil_mode=True)[0].T
    light = (frames - frames.min()) / (frames.max() - frames.min()).clamp_min(1e-6)
    seconds = wave.shape[-1] / adapter.sample_rate
    return {"seconds": seconds, "rows": light.shape[0], "columns": light.shape[1], "bytes": packed(light), "wav": played(wave, adapter.sample_rate)}


def waveform(adapter: nn.Module, entry: Float[Tensor, "_ _"]) -> Plain:
    """Least and greatest sample of each of some stretches, and a sound to play."""
    rate = getattr(adapter, "sample_rate", 48_000)  # of the published autoencoder, which does not say it
    wave = entry.T if isinstance(adapter, SoundPatches) else entry
    mono = wave.mean(0)[None]
    size = math.ceil(mono.shape[-1] / STRETCHES)
    high = F.max_pool1d(mono, size, ceil_mode=True)[0]
    low = -F.max_pool1d(-mono, size, ceil_mode=True)[0]
    return {"seconds": mono.shape[-1] / rate, "low": rounded(low), "high": rounded(high), "wav": played(wave, rate)}


def text(adapter: nn.Module, ids: Int[Tensor, " l"]) -> Plain:
    """One printable string a byte."""
    bytes_of = [decode([int(i)]) for i in ids]
    return {
        "characters": [b.decode("ascii") if b.isascii() and b.decode("ascii").isprintable() else "".join(f"\\x{x:02x}" for x in b) for b in bytes_of]
    }


def tokens(adapter: nn.Module, entry: Tensor) -> Plain:
    """Nothing: what an unknown adapter reads has no picture."""
    return {}


VIEWS: dict[str, Callable[..., Plain]] = {"picture": picture, "video": video, "sound": sound, "wave": waveform, "text": text, "tokens": tokens}


def visible(image: Shaped[Tensor, "c y x"]) -> Float[Tensor, "k y x"]:
    """One channel, or three, in [0, 1]; a picture that was standardised is stretched over that range."""
    pixels = image[:3].float() if len(image) >= 3 else image.float().mean(0, keepdim=True)
    if image.dtype == torch.uint8:
        return pixels / 255
    low, high = pixels.aminmax()
    standardised = float(low) < -0.5 or float(high) > 1.5  # grain may leave [0, 1] by a little
    return (pixels - low) / (high - low).clamp_min(1e-6) if standardised else pixels.clamp(0, 1)


def shrunk(pixels: Float[Tensor, "k y x"], side: int) -> Float[Tensor, "k _ _"]:
    """The same picture with at most so many rows and columns."""
    factor = math.ceil(max(pixels.shape[1:]) / side)
    return pixels if factor == 1 else F.avg_pool2d(pixels[None], factor, ceil_mode=True)[0]


def packed(values: Float[Tensor, "..."]) -> str:
    """Numbers from 0 to 1 as bytes, in base64."""
    bytes_of: UInt8[Tensor, ...] = (values.clamp(0, 1) * 255).round().byte()
    return base64.b64encode(bytes_of.contiguous().numpy().tobytes()).decode()


def played(wave: Float[Tensor, "c s"], rate: int) -> str:
    """A WAV as a data URI; a long sound at a lower rate, so that it stays whole."""
    factor = math.ceil(wave.shape[-1] / SAMPLES)
    small = F.avg_pool1d(wave[None], factor)[0] if factor > 1 else wave
    file = io.BytesIO()
    soundfile.write(file, small.clamp(-1, 1).T.numpy(), rate // factor, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


def rounded(values: Tensor) -> Any:
    """Nested lists of numbers with four digits, which keep a page small."""
    return [rounded(v) for v in values] if values.ndim else round(float(values), 4)


def map_of(weights: Shaped[Tensor, " m"], mask: Shaped[Tensor, " m"], grid: tuple[int, ...]) -> Any:
    """A row's map of one modality on its grid, without what lies behind the mask at the end of the first axis; large ones are summed over squares."""
    whole, valid = weights.float().cpu().view(grid), mask.cpu().view(grid)
    alive = valid if valid.ndim == 1 else valid.flatten(1).any(1)
    found = whole[: int(alive.nonzero().max()) + 1] if alive.any() else whole[:1]
    if len(grid) == 1:
        return rounded(found)
    factors = [1] * (len(grid) - 2) + [math.ceil(size / MOST_WEIGHTS) for size in found.shape[-2:]]
    for axis, factor in enumerate(factors):
        if factor > 1:
            found = F.pad(found, [0, 0] * (found.ndim - 1 - axis) + [0, -found.shape[axis] % factor])
            found = found.unflatten(axis, (-1, factor)).sum(axis + 1)
    return rounded(found)
