"""Video: the frames and the sound of one span of time.

Both lie on the clock of the file, to the millisecond: a stream that starts late has nothing before its start, and the priming samples
that encoders put before the first one are left out, as the container says. There is no silence and no picture for what is not there.

Letters: t frames, c colour channels, y x rows and columns of pixels, d channels of sound, s samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from perceiver.data.audio.file import check_values, downmix, resample
from perceiver.data.image.file import fit
from perceiver.data.limits import Limits
from perceiver.data.video.container import TICK, Container, pyav

JITTER = 0.02  # s; phones write timestamps of sound that waver. Less than one lost packet of AAC at 48 kHz
PREROLL = 0.25  # s of sound decoded before it is wanted: what a lossy codec gives depends on what came before
FILTER = 0.05  # s of sound on both sides of a span, for the filter of the resampling


@dataclass(frozen=True)
class Frames:
    """Which frames of a span are taken: those shown at the centres of `count` equal parts of it.

    Args:
        count: frames.
        size: rows and columns of pixels, to which a frame's largest centred part with that aspect is resized.
        stream: number of the video stream among those of the file, or the (rows, columns) of the first that has them.

    Raises:
        ValueError: when there is nothing to take.
    """

    count: int
    size: tuple[int, int]
    stream: int | tuple[int, int] = 0

    def __post_init__(self) -> None:
        if self.count < 1 or min(self.size) < 1:
            raise ValueError(f"count={self.count} frames of size={self.size} pixels: give at least 1 of each")


@dataclass(frozen=True)
class Sound:
    """How the sound of a span is taken.

    Args:
        sample_rate: Hz, to which it is resampled.
        channels: to which it is mixed.
        stream: number of the audio stream among those of the file, or the language of the first that is in it, as in "eng".

    Raises:
        ValueError: when there is nothing to take.
    """

    sample_rate: int
    channels: int = 1
    stream: int | str = 0

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.channels < 1:
            raise ValueError(f"sample_rate={self.sample_rate} Hz and channels={self.channels}: give at least 1 of each")


def read_clip(
    file: Path, sample: str, *, start: float, seconds: float, frames: Frames | None, sound: Sound | None, limits: Limits
) -> tuple[UInt8[Tensor, "t c y x"] | None, Float[Tensor, "d s"] | None]:
    """The frames and the sound of a span.

    Args:
        file: of the video.
        sample: its id, for messages.
        start: of the span, s on the clock of the file, whose streams may begin later than 0.
        seconds: length of the span.
        frames: which frames are taken; `None` for none.
        sound: how the sound is taken; `None` for none. There are `seconds * sample_rate` samples, or fewer where the stream ends
            before the span does.
        limits: of what is decoded.

    Raises:
        BadSample: when the file is corrupt or goes beyond a limit, lacks a stream, or has no frame or no sound where it is asked for.
    """
    container = Container(file, sample, limits)
    return (
        None if frames is None else read_frames(container, start, seconds, frames),
        None if sound is None else read_samples(container, start, seconds, sound),
    )


def extent(file: Path, sample: str, *, frames: Frames | None, sound: Sound | None, limits: Limits) -> tuple[float, float]:
    """The part of a file (from, to; s on its clock, whole milliseconds) in which all the wanted streams have something, as its header says.

    Raises:
        BadSample: when the file is corrupt, lacks one of them, or does not say how long it lasts.
    """
    container = Container(file, sample, limits)
    extents = [] if frames is None else [container.extent("video", frames.stream)]
    extents += [] if sound is None else [container.extent("audio", sound.stream)]
    begin, end = max(begin for begin, _ in extents), min(end for _, end in extents)
    if math.isinf(end):
        raise container.bad("its header does not say how long it lasts: write the file anew, or leave it out")
    return math.ceil(begin * 1000 - TICK) / 1000, math.floor(end * 1000 + TICK) / 1000


def read_frames(container: Container, start: float, seconds: float, wanted: Frames) -> UInt8[Tensor, "t c y x"]:
    """The frames of a span: at the centre of each of its parts the last one whose timestamp is not later.

    Raises:
        BadSample: as of `read_clip`.
    """
    instants = [start + (part + 0.5) * seconds / wanted.count for part in range(wanted.count)]
    taken: list[Tensor] = []
    until = -math.inf
    for number, (frame, until) in enumerate(with_ends(container.decoded("video", wanted.stream, instants[0]))):
        container.check(frames=number + 1)
        if number == 0 and frame.time > instants[0] + TICK:
            raise container.bad(f"no frame is shown at {instants[0]:.3f} s: the first one comes at {frame.time:.3f} s")
        here = sum(frame.time - TICK <= instant < until - TICK for instant in instants)
        if here:
            taken += [picture(frame, wanted.size)] * here
        if until > instants[-1] + TICK:
            break
    if len(taken) < len(instants):
        raise container.bad(f"no frame is shown at {instants[len(taken)]:.3f} s: the video ends, or is cut off, at {max(until, 0):.3f} s")
    return torch.stack(taken)


def with_ends(frames: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Each frame with the time until which it is shown, in s."""
    before, lasts = None, 0.0
    for frame in frames:
        if before is not None:
            yield before, frame.time
            lasts = frame.time - before.time
        before = frame
    if before is not None:  # some containers do not say how long a frame lasts: the last one, as long as the one before
        yield before, before.time + (float(before.duration * before.time_base) or lasts)


def picture(frame: Any, size: tuple[int, int]) -> UInt8[Tensor, "c y x"]:
    """The pixels of a frame, turned upright, and brought to a size as pictures are."""
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
    return fit(pixels.rot90(round(frame.rotation / 90), (1, 2)), size)


def read_samples(container: Container, start: float, seconds: float, wanted: Sound) -> Float[Tensor, "d s"]:
    """The sound of a span; its first sample is the one nearest to `start`.

    Raises:
        BadSample: as of `read_clip`.
    """
    wave, first, rate = heard(container, start, start + seconds, wanted)
    if first > start * rate + 1:
        raise container.bad(f"there is no sound at {start:.3f} s: it starts at {first / rate:.3f} s")
    # The old and the new samples meet once in a while, and resampling has to begin where they do: silence before the sound, which is cut off again.
    ahead = first % (rate // math.gcd(rate, wanted.sample_rate))
    try:
        check_values(wave)
        resampled = resample(downmix(F.pad(wave, (ahead, 0)), wanted.channels), rate, wanted.sample_rate)
    except ValueError as error:
        raise container.bad(f"its sound: {error}") from error
    origin = (first - ahead) * wanted.sample_rate // rate
    begin = round(start * wanted.sample_rate)
    end = min(begin + round(seconds * wanted.sample_rate), (first + wave.shape[1]) * wanted.sample_rate // rate)
    if end <= begin:
        raise container.bad(f"there is no sound at {start:.3f} s: it ends at {(first + wave.shape[1]) / rate:.3f} s")
    return resampled[:, begin - origin : end - origin].contiguous()


def heard(container: Container, begin: float, end: float, wanted: Sound) -> tuple[Float[Tensor, "d s"], int, int]:
    """What is heard from `begin` to `end` and a little around it, as it is in the file.

    Returns:
        The samples, the number of the first one, counted from 0 s, and their rate (Hz).

    Raises:
        BadSample: when there is nothing, or a hole, or it changes its format, or is cut off.
    """
    pieces: list[Tensor] = []
    first = stop = rate = channels = 0
    convert = pyav().AudioResampler(format="fltp")
    for piece in container.decoded("audio", wanted.stream, begin - FILTER - PREROLL):
        container.check(sample_rate=piece.sample_rate, channels=piece.layout.nb_channels)
        place = round(piece.time * piece.sample_rate)
        if place + piece.samples <= (begin - FILTER) * piece.sample_rate:
            continue
        if not pieces:
            first, stop, rate, channels = place, place, piece.sample_rate, piece.layout.nb_channels
        if (piece.sample_rate, piece.layout.nb_channels) != (rate, channels):
            raise container.bad(f"its sound changes its rate or its channels at {piece.time:.3f} s: cut the file there")
        if abs(place - stop) > JITTER * rate:
            raise container.bad(f"its sound has a hole from {stop / rate:.3f} to {piece.time:.3f} s")
        pieces += [torch.from_numpy(part.to_ndarray()) for part in convert.resample(piece)]
        stop += piece.samples
        if stop >= (end + FILTER) * rate:
            break
    if not pieces:
        raise container.bad(f"there is no sound at {begin:.3f} s: it ends before")
    packet = max(piece.shape[1] for piece in pieces)
    promised = container.extent("audio", wanted.stream)[1]
    padding = 0 if math.isinf(promised) else stop - round(promised * rate)  # put behind the end by the encoder, to fill the last packet
    if stop < end * rate and padding < -packet:
        raise container.bad(f"its sound ends at {stop / rate:.3f} s, and the header promises {promised:.3f} s: it is cut off")
    return torch.cat(pieces, dim=1)[:, : -padding if 0 < padding < packet else None], first, rate
