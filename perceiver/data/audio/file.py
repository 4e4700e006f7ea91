"""Sound files: a waveform out of an encoded file, at the rate and with the channels that a model wants.

WAV, FLAC, OGG (Vorbis, Opus) and MP3 are read. What the header claims is held against the limits before a sample is decoded, and the
number of samples that come must be the promised one (`perceiver.data.audio.length`): no sound is ever short without a word. Values are
full scale at 1; lossy codecs and resampling may go a little beyond.

Letters: c channels, s samples of each.
"""

import math
import stat
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.data.audio.length import promised_frames
from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample

# From the samples in a file and their rate (Hz): the first one that is taken, and the one behind the last. May raise a `ValueError`.
Part = Callable[[int, int], tuple[int, int]]

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")  # libsndfile's words
IN_PARTS = ("WAV", "WAVEX", "RF64", "FLAC")  # the others show only when decoded in full whether something is missing
MOST_SAMPLES = 500_000_000  # of all channels, decoded at once: 2 GB, or an hour of stereo at 48 kHz
LOUDEST = 8.0  # times full scale; what is louder was not scaled
MOST_WEIGHTS = 10_000_000  # of a filter for resampling

OGG_5_1 = [0, 2, 1, 5, 3, 4]  # places of the channels of WAV among those of Vorbis and Opus, as the decoder gives them

# ITU-R BS.775, of 5.1 in the order of WAV: left, right, centre, low frequencies (left out), left and right surround.
HALF = math.sqrt(0.5)
SURROUND = {1: ((HALF, HALF, 1.0, 0.0, 0.5, 0.5),), 2: ((1.0, 0.0, HALF, 0.0, HALF, 0.0), (0.0, 1.0, HALF, 0.0, 0.0, HALF))}


def whole(frames: int, rate: int) -> tuple[int, int]:
    """All of a file."""
    return 0, frames


def read_sound(file: Path, sample: str, *, sample_rate: int, channels: int, limits: Limits, part: Part = whole) -> Float[Tensor, "c s"]:
    """The sound in a file, or a part of it.

    A part is cut out before it is resampled, as if there was silence around it.

    Args:
        file: where it is.
        sample: its id, for messages.
        sample_rate: Hz, to which it is resampled.
        channels: to which it is mixed, see `downmix`.
        limits: what the file may claim.
        part: which part is taken.

    Raises:
        BadSample: when it cannot be read, is beyond a limit, is cut off or garbled, has no samples, or values that are no sound.
    """
    try:
        wave, rate = decode(file, sample, limits, part)
        check_values(wave)
        return resample(downmix(wave, channels), rate, sample_rate)
    except OSError as error:
        raise BadSample(sample, f"the file cannot be read: {error.strerror or error}") from error
    except soundfile.LibsndfileError as error:
        raise BadSample(sample, f"it cannot be decoded: {' '.join(error.error_string.split())}") from error
    except BadSample:
        raise
    except ValueError as error:
        raise BadSample(sample, str(error)) from error


def decode(file: Path, sample: str, limits: Limits, part: Part) -> tuple[Float[Tensor, "c s"], int]:
    """A part of a file as it is, and its rate (Hz).

    Raises:
        ValueError: when the file is not whole, or beyond a limit.
        OSError: when it cannot be read.
        soundfile.LibsndfileError: when it cannot be decoded.
    """
    described = file.stat()
    if not stat.S_ISREG(described.st_mode):  # a pipe would wait for ever
        raise ValueError("it is no file")
    limits.check(sample, bytes=described.st_size)
    with open(file, "rb", buffering=0) as opened:
        promised = promised_frames(opened)
        opened.seek(0)
        # By its number and not by its name, whose ending would tell the decoder what to see in it.
        with soundfile.SoundFile(opened.fileno(), closefd=False) as sound:
            frames = check_header(sound, sample, limits, promised)
            start, stop = part(frames, sound.samplerate)
            in_parts = sound.format in IN_PARTS
            first, behind = (start, stop) if in_parts else (0, frames)
            if (behind - first) * sound.channels > MOST_SAMPLES:
                raise ValueError(f"{behind - first:,} samples of {sound.channels} channels are more than {MOST_SAMPLES:,} at once: cut the file")
            if first:
                sound.seek(first)
            values = sound.read(behind - first, dtype="float32", always_2d=True)
            if len(values) != behind - first:
                raise ValueError(f"it is garbled or cut off: it promises {behind - first:,} samples, and {len(values):,} come")
            values = values[start - first : stop - first]
            if sound.format == "OGG" and sound.channels == len(OGG_5_1):
                values = values[:, OGG_5_1]
            return torch.from_numpy(values.T.copy()), sound.samplerate


def check_header(sound: soundfile.SoundFile, sample: str, limits: Limits, promised: int | None) -> int:
    """Samples of each channel in a file, after its header was compared with the limits."""
    if sound.format not in FORMATS:
        raise ValueError(f"it is {sound.format}, and WAV, FLAC, OGG and MP3 are read: convert it to one of them")
    frames = sound.frames if promised is None else promised
    if frames >= 2**62:  # libsndfile's way to say that it does not know
        raise ValueError("its header does not say how long it is: encode it again")
    if frames < 1 or sound.samplerate < 1 or sound.channels < 1:
        raise ValueError(f"there is no sound in it: {frames} samples at {sound.samplerate} Hz with {sound.channels} channels")
    limits.check(sample, sample_rate=sound.samplerate, channels=sound.channels, seconds=frames / sound.samplerate)
    if frames > sound.frames:
        raise ValueError(f"the decoder expects {sound.frames:,} of its {frames:,} samples: encode it again, an MP3 with a header of its length")
    return frames


def check_values(wave: Float[Tensor, "c s"]) -> None:
    """Refuses what files of floats may hold and no sound has.

    Raises:
        ValueError: when a value is NaN, infinite, or far beyond full scale.
    """
    loudest = float(wave.abs().max())
    if not math.isfinite(loudest):
        raise ValueError(f"it holds {'NaN' if wave.isnan().any() else 'infinity'} among its samples: mend it, or leave it out")
    if loudest > LOUDEST:
        raise ValueError(f"it has values up to {loudest:g} where full scale is 1: divide them, as by 32768 where they were 16-bit integers")


def downmix(wave: Float[Tensor, "c s"], channels: int) -> Float[Tensor, "d s"]:
    """A sound with another number of channels.

    - One channel becomes any number of equal ones, and two become their mean.
    - Six are taken for 5.1 in the order of WAV and FFmpeg (left, right, centre, low frequencies, left and right surround). They become two or
      one by the matrix of ITU-R BS.775, divided by the sum of a row's weights, so that nothing can go beyond full scale.

    Args:
        wave: the sound.
        channels: how many there are to be.

    Raises:
        ValueError: when there is no such rule.
    """
    there = len(wave)
    if there == channels:
        return wave
    if there == 1:
        return wave.repeat(channels, 1)
    if (there, channels) == (2, 1):
        return wave.mean(0, keepdim=True)
    if there == 6 and channels in SURROUND:
        matrix = torch.tensor(SURROUND[channels])
        return matrix / matrix.sum(1, keepdim=True) @ wave
    raise ValueError(f"{there} channels do not become {channels}: from 1 to any, from 2 to 1, and from 6 (5.1) to 2 or 1 they do. Mix it before")


def resample(wave: Float[Tensor, "c s"], rate: int, sample_rate: int) -> Float[Tensor, "c t"]:
    """A sound at another rate: torchaudio's windowed sinc, band-limited, of ceil(s * sample_rate / rate) samples.

    Args:
        wave: the sound.
        rate: Hz that it is at.
        sample_rate: Hz that it is to be at.

    Raises:
        ValueError: when the rates have so little in common that the filter would not fit into memory.
    """
    if rate == sample_rate:
        return wave
    divisor = math.gcd(rate, sample_rate)
    if rate // divisor * (sample_rate // divisor) > MOST_WEIGHTS:
        raise ValueError(f"from {rate} to {sample_rate} Hz takes a filter of {rate // divisor} x {sample_rate // divisor}: resample it before")
    return resampler(rate, sample_rate)(wave)


@lru_cache(maxsize=16)
def resampler(rate: int, sample_rate: int) -> Any:
    """Torchaudio's resampling with its filter, which is made once for each pair of rates. Imported only when it is needed."""
    return import_module("torchaudio.transforms").Resample(rate, sample_rate)
