"""Fuzzing of sounds: what is heard is what the file promises, or the sample is named as a bad one."""

import io
import math
import struct
from pathlib import Path

import numpy as np
import soundfile
import torch
from hypothesis import strategies as st

from perceiver.data.audio.file import read_sound
from perceiver.data.audio.length import promised_frames
from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.mutations import mutated, put

RATE, FRAMES = 8_000, 1_009
NOISE = np.random.default_rng(11)
SMALL = Limits(bytes=100_000, seconds=2.0, sample_rate=96_000, channels=8)
TOKENS = (b"RIFF", b"RF64", b"data", b"fmt ", b"ds64", b"fLaC", b"OggS", b"ID3\4\0\0\0\0\0\1", b"TAG", b"Xing", b"Info", b"\xff\xfb\x90\0")


def sound(channels: int = 1, **options: str) -> bytes:
    """The content of a sound file."""
    file = io.BytesIO()
    soundfile.write(file, NOISE.integers(-9_000, 9_000, (FRAMES, channels)).astype(np.int16) / 32_768, RATE, **options)
    return file.getvalue()


SOUNDS = {
    "WAV": sound(format="WAV"),
    "WAV, large end first": sound(format="WAV", endian="BIG"),
    "WAV of floats": sound(2, format="WAV", subtype="FLOAT"),
    "WAV, extensible": sound(2, format="WAVEX"),
    "RF64": sound(format="RF64"),
    "FLAC": sound(2, format="FLAC"),
    "OGG": sound(format="OGG", subtype="VORBIS"),
    "OGG with Opus": sound(format="OGG", subtype="OPUS"),
    "MP3": sound(format="MP3"),
}


def heard(file: Path, content: bytes) -> torch.Tensor | None:
    """What is heard of a content; None when it is refused."""
    try:
        return read_sound(put(file, content), "the sample", sample_rate=RATE, channels=1, limits=SMALL)
    except BadSample as error:
        check_told(error, "the sample: ")
        return None


def promised(file: Path) -> tuple[int, int]:
    """Frames and rate of a file, as it says itself: those of a WAV by its chunks, of others by the decoder, of such an MP3 by its packets."""
    content, told = file.read_bytes(), soundfile.info(io.BytesIO(file.read_bytes()))
    if content[:4] in (b"RIFF", b"RIFX"):
        order, place, frame_bytes = "<" if content[:4] == b"RIFF" else ">", 12, 0
        while True:
            name, length = struct.unpack_from(f"{order}4sI", content, place)
            if name == b"fmt ":
                (frame_bytes,) = struct.unpack_from(f"{order}H", content, place + 20)
            if name == b"data":
                return length // frame_bytes, told.samplerate
            place += 8 + length + length % 2
    with file.open("rb") as opened:
        found = promised_frames(opened)
    return told.frames if found is None else found, told.samplerate


@fuzz(1_600, content=st.sampled_from(sorted(SOUNDS)).flatmap(lambda form: mutated(SOUNDS[form], within=120, tokens=TOKENS)))
def test_a_sound_whose_header_was_changed_has_the_samples_that_it_promises_or_is_a_bad_one(content, place):
    file = place / "changed"
    if (wave := heard(file, content)) is None:
        return
    frames, rate = promised(file)
    assert wave.shape == (1, math.ceil(frames * RATE / rate)) and wave.dtype == torch.float32
    assert wave.isfinite().all() and frames <= 2 * rate


@fuzz(400, content=st.sampled_from(sorted(SOUNDS)).flatmap(lambda form: mutated(SOUNDS[form], tokens=TOKENS)))
def test_a_sound_that_was_changed_anywhere_is_heard_in_full_length_or_is_a_bad_one(content, place):
    file = place / "anywhere"
    if (wave := heard(file, content)) is None:
        return
    frames, rate = promised(file)
    assert wave.shape == (1, math.ceil(frames * RATE / rate)) and wave.isfinite().all()


@fuzz(400, form=st.sampled_from(sorted(SOUNDS)), part=st.floats(0, 1, exclude_max=True))
def test_a_sound_that_was_cut_off_is_a_bad_one_or_has_lost_nothing(form, part, place):
    whole, left = heard(place / "whole", SOUNDS[form]), heard(place / "cut", SOUNDS[form][: int(part * len(SOUNDS[form]))])
    assert whole is not None and (left is None or torch.equal(left, whole))
