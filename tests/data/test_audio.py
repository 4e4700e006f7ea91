"""Sound files: what is decoded, at which rate and with which channels, and what is refused."""

import io
import math
import os
import struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceiver.data import BadSample, Limits
from perceiver.data.audio.file import downmix, read_sound, resample
from tests.builders import bounded

RATE = 8_000
LIMITS = Limits()


def noise(frames, channels=1, seed=0):
    """A waveform, (s, c), that 16 bits hold exactly."""
    return np.random.default_rng(seed).integers(-9_000, 9_000, (frames, channels)).astype(np.int16)


def encoded(values, rate=RATE, **options):
    """The content of a sound file."""
    file = io.BytesIO()
    soundfile.write(file, values, rate, **{"format": "WAV", **options})
    return file.getvalue()


def wav(data=b"\1\2" * 70, *, claims=None, rate=RATE, channels=1, align=2, form=True, before=b""):
    """A WAV of 16 bits that says what it is told to."""
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * align % 2**32, align, 16) if form else b""
    body = b"WAVE" + before + fmt + b"data" + struct.pack("<I", len(data) if claims is None else claims) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture
def read(tmp_path):
    """Writes a content to a file, and reads it as the library does."""

    def read_content(content, *, name="a.wav", sample_rate=RATE, channels=1, limits=LIMITS, **options):
        (tmp_path / name).write_bytes(content)
        return read_sound(tmp_path / name, "the sample", sample_rate=sample_rate, channels=channels, limits=limits, **options)

    return read_content


def bad(reason):
    return pytest.raises(BadSample, match=f"^the sample: .*{reason}")


# What is read


@pytest.mark.parametrize("form", [{"format": "WAV"}, {"format": "WAVEX"}, {"format": "RF64"}, {"format": "FLAC"}, {"format": "WAV", "endian": "BIG"}])
def test_lossless_files_are_read_bit_for_bit(read, form):
    values = noise(1009, 3)
    assert torch.equal(read(encoded(values, **form), channels=3), torch.from_numpy(values.T / np.float32(32_768)))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_other_kinds_of_wav_are_read_as_the_decoder_says(read, subtype):
    content = encoded(noise(211, 2) / 32_768, subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert torch.equal(read(content, channels=2), torch.from_numpy(expected.T.copy()))


@pytest.mark.parametrize("form", [{"format": "OGG"}, {"format": "OGG", "subtype": "OPUS"}, {"format": "MP3"}])
def test_lossy_files_keep_their_length_and_nearly_their_sound(read, form):
    time = np.arange(2 * RATE + 17) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)
    wave = read(encoded(tone, **form))
    assert wave.shape == (1, len(tone))
    assert np.corrcoef(wave[0].numpy(), tone)[0, 1] > 0.99


def test_the_ending_of_a_name_means_nothing(read):
    values = noise(101)
    assert read(encoded(values, format="FLAC"), name="a.mp3").shape == (1, 101)


def test_mp3_with_a_tag_before_and_behind_is_whole(read):
    content = encoded(noise(3_001), format="MP3")
    assert read(b"ID3\3\0\0\0\0\0\7" + bytes(7) + content + b"TAG" + bytes(125)).shape == (1, 3_001)


def without_length(content):
    """An MP3 without the packet that says how long it is."""
    kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[content[2] >> 4]
    return content[72 * kbits * 1000 // RATE + (content[2] >> 1 & 1) :]


def test_an_mp3_that_does_not_say_how_long_it_is_has_all_its_packets(read):
    """Of this one the decoder expects more than there is: it guesses from the first packet."""
    values = np.linspace(0, 1, 5 * RATE)[:, None] ** 3 * noise(5 * RATE) / 32_768
    with soundfile.SoundFile(file := io.BytesIO(), "w", RATE, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as sound:
        sound.write(values)
    wave = read(without_length(file.getvalue()))
    assert wave.shape[1] % 576 == 0 and 5 * RATE <= wave.shape[1] <= 5 * RATE + 3 * 576


def test_an_mp3_that_the_decoder_would_cut_short_is_refused(read):
    loud_first = np.linspace(1, 0, 5 * RATE)[:, None] ** 3 * noise(5 * RATE) / 32_768
    with soundfile.SoundFile(file := io.BytesIO(), "w", RATE, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as sound:
        sound.write(loud_first)
    content = without_length(file.getvalue())
    (expected, there) = (soundfile.info(io.BytesIO(content)).frames, 5 * RATE)
    assert expected < there
    with bad("expects .* of its .* samples: encode it again"):
        read(content)


# Rates and channels


@pytest.mark.parametrize(("rate", "to"), [(8_000, 16_000), (44_100, 16_000), (11_025, 8_000), (48_000, 44_100)])
def test_a_tone_keeps_its_pitch_and_its_length_at_another_rate(rate, to):
    frames = rate // 2 + 7
    tone = torch.sin(2 * math.pi * 997 * torch.arange(frames) / rate)[None]
    heard = resample(tone, rate, to)
    assert heard.shape == (1, -(-frames * to // rate))
    expected = torch.sin(2 * math.pi * 997 * torch.arange(heard.shape[1]) / to)
    middle = slice(200, -200)
    torch.testing.assert_close(heard[0, middle], expected[middle], atol=0.01, rtol=0)


def test_what_a_lower_rate_cannot_hold_is_filtered_out():
    tone = torch.sin(2 * math.pi * 7_001 * torch.arange(16_000) / 16_000)[None]
    assert resample(tone, 16_000, 8_000)[:, 100:-100].abs().max() < 0.01


def test_resampling_is_that_of_torchaudio():
    functional = pytest.importorskip("torchaudio.functional")
    wave = torch.from_numpy(noise(1_009, 2).T / np.float32(32_768))
    torch.testing.assert_close(resample(wave, 22_050, 16_000), functional.resample(wave, 22_050, 16_000))


def test_rates_with_nothing_in_common_are_refused_before_they_fill_the_memory(read):
    with bad("from 44099 to 44100 Hz takes a filter of 44099 x 44100"):
        read(encoded(noise(100), rate=44_099), sample_rate=44_100)


def test_mono_becomes_equal_channels_and_stereo_becomes_their_mean():
    wave = torch.randn(2, 31)
    assert torch.equal(downmix(wave[:1], 3), wave[[0, 0, 0]])
    torch.testing.assert_close(downmix(wave, 1), (wave[:1] + wave[1:]) / 2)
    assert downmix(wave, 2) is wave


def test_surround_is_mixed_with_the_weights_of_the_itu():
    left, right, centre, low, rear_left, rear_right = torch.eye(6)
    a = 2**-0.5
    stereo = downmix(torch.eye(6), 2)
    torch.testing.assert_close(stereo[0], (left + a * centre + a * rear_left) / (1 + 2 * a))
    torch.testing.assert_close(stereo[1], (right + a * centre + a * rear_right) / (1 + 2 * a))
    mono = downmix(torch.eye(6), 1)[0]
    torch.testing.assert_close(mono, (a * left + a * right + centre + 0.5 * rear_left + 0.5 * rear_right) / (2 + 2 * a))
    assert mono @ low == 0


@bounded
@given(st.sampled_from([(2, 1), (6, 1), (6, 2)]), st.integers(0, 2**6 - 1))
def test_no_mix_goes_beyond_full_scale(channels, signs):
    wave = torch.tensor([[1.0 if signs >> channel & 1 else -1.0] for channel in range(channels[0])])
    assert downmix(wave, channels[1]).abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("channels", [(3, 1), (2, 5), (6, 3)])
def test_a_mix_without_a_rule_is_refused(read, channels):
    with bad(f"{channels[0]} channels do not become {channels[1]}"):
        read(encoded(noise(20, channels[0])), channels=channels[1])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_the_channels_of_an_ogg_are_brought_into_the_order_of_wav(read, subtype):
    """Vorbis I, section 4.3.9: left, centre, right, left and right surround, low frequencies."""
    pitches = {"left": 300, "right": 500, "centre": 700, "low": 60, "rear left": 1_100, "rear right": 1_300}
    order = ["left", "centre", "right", "rear left", "rear right", "low"]
    time = np.arange(48_000) / 48_000
    values = np.stack([0.3 * np.sin(2 * np.pi * pitches[name] * time) for name in order], axis=1)
    content = encoded(values, 48_000, format="OGG", subtype=subtype)
    assert np.abs(np.fft.rfft(soundfile.read(io.BytesIO(content))[0][:, 1])).argmax() == 700  # the decoder leaves them as they are
    found = torch.fft.rfft(read(content, sample_rate=48_000, channels=6)).abs()[:, 20:].argmax(1) + 20
    assert (found - torch.tensor(list(pitches.values()))).abs().max() <= 8


# What is refused


@pytest.mark.parametrize("missing", [1, 2, 71])
def test_a_truncated_wav_is_refused(read, missing):
    with bad("cut off: its header promises 140 bytes of sound, and"):
        read(wav()[:-missing])


def test_a_wav_that_is_cut_off_in_its_header_is_refused(read):
    for length in range(1, 44):
        with bad(""):
            read(wav()[:length])


@pytest.mark.parametrize("claims", [2**32 - 1, 2**32 - 2, 2**31])
def test_a_wav_that_claims_gigabytes_is_refused_from_its_header(read, claims):
    with bad(f"promises {claims:,} bytes of sound, and 140 are there"):
        read(wav(claims=claims))


def test_an_rf64_that_claims_more_than_it_has_is_refused(read):
    content = encoded(noise(50), format="RF64")
    with bad("promises 100 bytes of sound, and 97 are there"):
        read(content[:-3])


def test_half_a_frame_is_refused(read):
    with bad("141 bytes of sound are no multiple of 2"):
        read(wav(b"\1" * 141))


def test_a_wav_at_0_hz_is_refused(read):
    with bad("0 Hz"):
        read(wav(rate=0))


@pytest.mark.parametrize("align", [0, 2])
def test_a_wav_without_channels_is_refused(read, align):
    with bad(f"8000 Hz, 0 channels and {align} bytes a frame: none may be 0"):
        read(wav(channels=0, align=align))


def test_chunks_before_the_sound_are_passed_by(read):
    assert torch.equal(read(wav(before=b"LIST\3\0\0\0abc\0" + b"JUNK\4\0\0\0data")), read(wav()))


def test_a_wav_without_a_format_is_refused(read):
    with bad("does not say its format"):
        read(wav(form=False))


def test_a_wav_codec_whose_length_cannot_be_counted_is_refused(read):
    with bad("codec 0x0002 is none of PCM"):
        read(encoded(noise(500), subtype="MS_ADPCM"))


def test_a_wav_with_endless_chunks_is_refused(read):
    with bad("no data chunk"):
        read(wav(before=b"JUNK\0\0\0\0" * 1_001))


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity"), (9_000.0, "up to 9000 where full scale is 1")]
)
def test_values_that_are_no_sound_are_refused(read, value, word):
    values = np.zeros((37, 1), np.float32)
    values[11] = value
    with bad(word):
        read(encoded(values, subtype="FLOAT"))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty"), (wav(b""), "there is no sound"), (b"Hello, this is text.\n" * 9, "no WAV")]
)
def test_what_is_empty_or_no_sound_is_refused(read, content, reason):
    with bad(reason):
        read(content)


@pytest.mark.parametrize("form", ["AIFF", "AU", "CAF", "W64"])
def test_other_formats_are_refused_since_nobody_checks_their_length(read, form):
    with bad("no WAV, FLAC, OGG or MP3"):
        read(encoded(noise(99), format=form))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(seconds=1.0), "1.5 seconds are more than the limit of 1"),
        (Limits(sample_rate=7_999), "8000 sample rate are more than the limit of 7999"),
        (Limits(channels=1), "2 channels are more than the limit of 1"),
        (Limits(bytes=48_043), "48044 bytes are more than the limit of 48043"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_before_it_is_decoded(read, limits, reason, monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
    with bad(reason):
        read(encoded(noise(12_000, 2)), limits=limits)


@pytest.mark.parametrize(
    "form", [{"format": "FLAC"}, {"format": "OGG"}, {"format": "OGG", "subtype": "OPUS"}, {"format": "MP3"}], ids=["flac", "vorbis", "opus", "mp3"]
)
@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.97, None])
def test_truncated_files_of_other_formats_are_refused(read, form, keep):
    content = encoded(noise(40_009), **form)
    with bad(""):
        read(content[: -1 if keep is None else round(keep * len(content))])


def test_an_mp3_that_ends_between_two_packets_is_refused_by_its_header(read):
    content = encoded(noise(40_009), format="MP3")
    packet = without_length(content)
    size = len(content) - len(packet)
    with bad("promises .* packets of MP3"):
        read(content[: size + 3 * size])


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3"])
def test_a_file_with_a_hole_is_refused(read, form):
    content = bytearray(encoded(noise(40_009), format=form))
    content[len(content) // 2 : len(content) // 2 + 700] = bytes(700)
    with bad(""):
        read(bytes(content))


def test_an_ogg_with_a_page_missing_or_a_second_stream_behind_it_is_refused(read):
    content = encoded(noise(40_009), format="OGG")
    pages = [b"OggS" + page for page in content.split(b"OggS")[1:]]
    assert len(pages) > 5
    with bad("page 3 of the OGG is missing"):
        read(b"".join(pages[:3] + pages[4:]))
    with bad("behind page .* not marked as its last"):
        read(b"".join(pages[:-1]))
    with bad("more than one stream"):
        read(content + content)


def test_a_file_that_is_not_there_and_a_pipe_are_bad_samples(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("none", "cannot be read: No such file"), ("pipe", "no file")):
        with bad(reason):
            read_sound(tmp_path / name, "the sample", sample_rate=RATE, channels=1, limits=LIMITS)


@bounded
@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF", b"RIFF\0\0\0\0WAVEfmt ", b"OggS", b"fLaC", b"ID3", b"\xff\xfb\x90"]))
def test_any_bytes_are_a_sound_or_a_bad_sample(tmp_path_factory, content, magic):
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(magic + content)
    try:
        assert read_sound(file, "x", sample_rate=RATE, channels=1, limits=LIMITS).shape[1] > 0
    except BadSample as error:
        assert "\n" not in str(error)
