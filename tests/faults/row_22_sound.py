"""A WAV file lies about itself, or holds what is no sound."""

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
import torch

from perceiver.data import BadSample
from perceiver.data.audio.file import read_sound
from perceiver.data.limits import Limits
from tests.faults.scoreboard import Fell
from tests.faults.subjects.faulty_files import peak_bytes, wav

FAULT = "a WAV that is cut off, claims 4 GiB, 0 Hz or 0 channels, or holds NaN"
EXPECTED = "refused, or read exactly; never shorter without a word"
NOT_APPLICABLE = dict.fromkeys(("lightning", "transformers", "accelerate"), "it decodes no sound files in training")

RATE, FRAMES = 8_000, 1_001
MOST_BYTES = 50_000_000


def ours(folder: Path) -> str:
    """What is wrong is refused with a reason, and with little memory; what is right is read number by number."""
    said = []
    for what, content in wrong().items():
        file = folder / "wrong.wav"
        file.write_bytes(content)
        try:
            wave = read(file)
        except BadSample as error:
            said.append(f"{what}: {error.reason}")
        else:
            raise Fell(f"{what}: it was read as {tuple(wave.shape)}")
        if (took := peak_bytes(lambda file=file: read(file))) > MOST_BYTES:
            raise Fell(f"{what}: {took / 1e6:.0f} MB were taken to refuse it")
    for what, (content, values) in right().items():
        file = folder / "right.wav"
        file.write_bytes(content)
        wave = read(file, channels=len(values))
        if wave.shape != values.shape or not torch.equal(wave, torch.from_numpy(values.astype(np.float32))):
            raise Fell(f"{what}: it was read as something else")
    return f"{len(said)} refused and {len(right())} exact; {said[1]}"


def read(file: Path, channels: int = 1) -> torch.Tensor:
    """The sound in a file."""
    return read_sound(file, file.name, sample_rate=RATE, channels=channels, limits=Limits())


def wrong() -> dict[str, bytes]:
    """Files that must be refused, by what is wrong with them."""
    noise = np.random.default_rng(3).integers(-9_000, 9_000, FRAMES, dtype=np.int16).tobytes()
    floats = np.random.default_rng(3).random(FRAMES, dtype=np.float32)
    whole = wav(noise)
    spoiled = {name: np.where(np.arange(FRAMES) == 500, np.float32(value), floats) for name, value in (("NaN", np.nan), ("infinity", np.inf))}
    return {
        "cut off by one sample": whole[:-2],
        "cut off in the middle": whole[: len(whole) // 2],
        "cut off in a sample": whole[:-1],
        "cut off in its header": whole[:30],
        "claims 4 GiB": wav(noise, claimed=2**32 - 1),
        "claims 4 GiB, and has nothing": wav(b"", claimed=2**32 - 2),
        "claims one sample more": wav(noise, claimed=len(noise) + 2),
        "claims half a sample": wav(noise, claimed=len(noise) - 1),
        "0 Hz": wav(noise, rate=0),
        "4 GHz": wav(noise, rate=2**32 - 1),
        "0 channels": wav(noise, channels=0),
        "65,535 channels": wav(noise, channels=65_535, bits=8),
        "0 bits": wav(noise, bits=0),
        "no samples": wav(b""),
        "no data": whole[:36],
        "empty": b"",
        "another codec": wav(noise, kind=0x55),
        "floats with NaN": wav(spoiled["NaN"].tobytes(), kind=3, bits=32),
        "floats with infinity": wav(spoiled["infinity"].tobytes(), kind=3, bits=32),
        "floats that are not scaled": wav((floats * 32_768).tobytes(), kind=3, bits=32),
    }


def right() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files that must be read, with the values (c, s) in them."""
    draw = np.random.default_rng(3)
    levels = draw.integers(-9_000, 9_000, (1, FRAMES), dtype=np.int16)
    two = draw.integers(-9_000, 9_000, (2, FRAMES), dtype=np.int16)
    floats = draw.random((1, FRAMES), dtype=np.float32) * 2 - 1
    eight = draw.integers(0, 256, (1, FRAMES), dtype=np.uint8)
    whole = wav(levels.tobytes())
    packed = io.BytesIO()
    soundfile.write(packed, levels.T, RATE, format="FLAC", subtype="PCM_16")
    return {
        "16 bits": (whole, levels / 32_768),
        "two channels": (wav(two.T.tobytes(), channels=2), two / 32_768),
        "8 bits, an odd number of them": (wav(eight.tobytes(), bits=8) + b"\0", (eight.astype(np.float32) - 128) / 128),
        "32-bit floats": (wav(floats.tobytes(), kind=3, bits=32), floats),
        "a chunk before the data": (whole[:36] + b"LIST" + struct.pack("<I", 4) + b"INFO" + whole[36:], levels / 32_768),
        "FLAC": (packed.getvalue(), levels / 32_768),
    }
