"""Sound: what is decoded, at which rate and with which channels; what is refused; which part of a long sound is heard."""

import io
import math
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceiver.data import BadSample, Limits
from perceiver.data.audio import downmix, read_sound, resample
from perceiver.data.audio_folder import AudioFolder
from perceiver.data.audio_manifest import AudioManifest
from perceiver.data.sound_files import CROPS, Recording, SoundFiles, SoundForm, middle_crop, random_crop
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


def wav(data=b"\1\2" * 70, *, claims=None, rate=RATE, channels=1, codec=1, bits=16, form=True, before=b""):
    """A WAV that says what it is told to."""
    align = channels * bits // 8
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, codec, channels, rate, rate * align % 2**32, align, bits) if form else b""
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


def test_a_wav_without_channels_is_refused(read):
    with bad("0 channels"):
        read(wav(channels=0))


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


# Which part is heard


def sounds(tmp_path, frames, *, rate=RATE, seconds, crop=middle_crop, sample_rate=RATE, form="WAV", **part):
    file = tmp_path / "sound"
    values = noise(frames, seed=5)
    file.write_bytes(encoded(values, rate, format=form))
    whole = torch.from_numpy(values.T / np.float32(32_768))
    return SoundFiles([Recording(file, "the sample", **part)], [3], SoundForm(sample_rate, seconds), crop, "audio"), whole


def test_a_short_sound_is_not_padded(tmp_path):
    rows, whole = sounds(tmp_path, 701, seconds=1.0)
    row = rows.row(0, np.random.default_rng(0))
    assert torch.equal(row["audio"], whole) and row["target"] == 3 and len(rows) == 1 and rows.name(0) == "the sample"


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_evaluation_hears_the_middle_of_a_long_sound(tmp_path, form):
    rows, whole = sounds(tmp_path, 1_003, seconds=0.1, form=form)
    for seed in range(3):
        assert torch.equal(rows.row(0, np.random.default_rng(seed))["audio"], whole[:, 101:901])


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_training_hears_any_part_of_a_long_sound_and_the_same_for_the_same_draw(tmp_path, form):
    rows, whole = sounds(tmp_path, 803, seconds=0.1, crop=random_crop, form=form)
    starts = set()
    for seed in range(40):
        heard, again = (rows.row(0, np.random.default_rng(seed))["audio"] for _ in range(2))
        assert torch.equal(heard, again)
        starts |= {start for start in range(4) if torch.equal(heard, whole[:, start : start + 800])}
    assert starts == {0, 1, 2, 3}


def test_only_training_is_cropped_at_random():
    assert CROPS == {"train": random_crop, "val": middle_crop, "test": middle_crop}


@bounded
@given(st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100]), st.sampled_from([8_000, 16_000, 44_100]), st.integers(1, 4_000))
def test_a_cropped_sound_has_exactly_the_samples_that_the_adapter_takes(tmp_path_factory, rate, sample_rate, thousandths):
    seconds = 0.0901 * thousandths / 4_000 + 0.001
    rows, _ = sounds(tmp_path_factory.getbasetemp(), rate // 10, rate=rate, seconds=seconds, sample_rate=sample_rate)
    assert rows.row(0, np.random.default_rng(0))["audio"].shape == (1, round(seconds * sample_rate))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_part_of_a_file_is_that_part_of_the_whole(tmp_path, form):
    rows, _ = sounds(tmp_path, 9_001, seconds=9.0, form=form)
    whole = rows.row(0, np.random.default_rng(0))["audio"]
    for start, stop in ((0.5, 0.75), (0.0, 0.01), (1.0, None)):
        part = SoundFiles([Recording(tmp_path / "sound", "x", start, stop)], [0], rows.form, middle_crop, "audio")
        behind = None if stop is None else round(stop * RATE)
        assert torch.equal(part.row(0, np.random.default_rng(0))["audio"], whole[:, round(start * RATE) : behind])


@pytest.mark.parametrize(("start", "stop"), [(0.2, None), (0.0, 0.126), (0.05, 0.05001)])
def test_a_part_that_is_not_there_is_a_bad_sample(tmp_path, start, stop):
    rows, _ = sounds(tmp_path, 1_000, seconds=1.0, start=start, stop=stop)
    with bad("there is no sound from .* to .*: the file has 0.125 s"):
        rows.row(0, np.random.default_rng(0))


def test_rows_pickle_and_read_the_same_afterwards(tmp_path):
    rows, whole = sounds(tmp_path, 31, seconds=1.0)
    assert torch.equal(pickle.loads(pickle.dumps(rows)).row(0, np.random.default_rng(0))["audio"], whole)


@pytest.mark.parametrize("options", [{"sample_rate": 0}, {"channels": 0}, {"max_seconds": 0.0}, {"max_seconds": -1.0}])
def test_a_form_without_samples_is_refused(options):
    with pytest.raises(ValueError, match="give at least one sample"):
        SoundForm(**{"sample_rate": RATE, "max_seconds": 1.0, **options})


# Folders


def tree(root, *files, frames=13):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(encoded(noise(frames)))
    return root


def folder(root, **options):
    return AudioFolder(root, **{"sample_rate": RATE, "max_seconds": 1.0, **options})


def listed(source):
    return {split: {rows.name(i) for i in range(len(rows))} for split in ("train", "val", "test") for rows in [source.rows(split)]}


def test_folders_of_splits_are_taken_at_their_word(tmp_path):
    source = folder(tree(tmp_path, "train/cat/1.wav", "train/ant/2.wav", "val/cat/1.wav", "test/ant/5.WAV", "test/ant/.hidden", "README.md"))
    assert listed(source) == {"train": {"train/ant/2.wav", "train/cat/1.wav"}, "val": {"val/cat/1.wav"}, "test": {"test/ant/5.WAV"}}
    assert source.classes == ["ant", "cat"] and source.task == {"task": "classification", "num_classes": 2}
    assert source.rows("val").row(0, np.random.default_rng(0))["target"] == 1
    assert source.entries == source.ragged == ("audio",)


def test_sounds_that_are_added_leave_the_split_of_the_others_as_it_is(tmp_path):
    names = [f"{label}/{number}.wav" for label in ("a", "b") for number in range(53)]
    before = listed(folder(tree(tmp_path, *names)))
    after = listed(folder(tree(tmp_path, "a/more.wav", "b/0a.wav")))
    for split in before:
        assert before[split] <= after[split]
    assert all(len(before[split]) > 3 for split in before) and sum(map(len, before.values())) == 106
    assert len(before["train"]) > 70


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ((), "holds no folder"),
        (("train/a/1.wav", "val/b/1.wav"), "no sounds of the class 'b' to train on"),
        (("train/a/1.wav", "train/b/c/2.wav"), "b/c is not a sound"),
        (("a/1.wav", "a/notes.txt"), "notes.txt is not a sound"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_refused_before_training(tmp_path, files, reason):
    with pytest.raises(ValueError, match=reason):
        folder(tree(tmp_path, *files), val_share=0.0, test_share=0.0).rows("train")


def test_an_empty_class_and_an_empty_split_are_refused(tmp_path):
    tree(tmp_path, "train/a/1.wav")
    with pytest.raises(ValueError, match="no sounds of the split 'val'"):
        folder(tmp_path).rows("val")
    (tmp_path / "train/b").mkdir()
    with pytest.raises(ValueError, match="train/b holds no sounds"):
        folder(tmp_path).rows("train")


@pytest.mark.parametrize("link", ["a/2.wav", "b", "a"])
def test_symbolic_links_in_a_folder_are_refused(tmp_path, link):
    tree(tmp_path / "outside", "1.wav")
    tree(tmp_path / "root", "c/1.wav")
    (tmp_path / "root" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "root" / link).symlink_to(tmp_path / "outside" / ("1.wav" if "." in link else ""))
    with pytest.raises(ValueError, match="is a symbolic link"):
        folder(tmp_path / "root").rows("train")


def test_a_folder_that_is_not_there_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/none"):
        folder(tmp_path / "none").rows("train")


@pytest.mark.parametrize("options", [{"val_share": -0.1}, {"val_share": 0.5, "test_share": 0.5}, {"sample_rate": 0}])
def test_impossible_settings_are_refused(tmp_path, options):
    with pytest.raises(ValueError):
        folder(tmp_path, **options)


# Manifests


def manifest(tmp_path, text, name="list.csv", **options) -> AudioManifest:
    tree(tmp_path, "a.wav", "below/b.wav", "c.wav", frames=1_600)
    (tmp_path / name).write_text(text, encoding="utf-8")
    return AudioManifest(tmp_path / name, **{"sample_rate": RATE, "max_seconds": 1.0, **options})


def test_a_manifest_names_files_classes_splits_and_parts(tmp_path):
    source = manifest(
        tmp_path,
        "path,label,split,start,stop\na.wav,ja,train,0.05,0.15\nbelow/b.wav,nein,train,,\na.wav,ja,val,0.15,\nc.wav,nein,test,,0.1\n",
    )
    assert source.classes == ["ja", "nein"]
    names = {
        "train": {"a.wav from 0.05 to 0.15 s", "below/b.wav"},
        "val": {"a.wav from 0.15 to the end"},
        "test": {"c.wav from 0 to 0.1 s"},
    }
    assert listed(source) == names
    lengths = {split: [source.rows(split).row(i, np.random.default_rng(0))["audio"].shape[1] for i in range(len(names[split]))] for split in names}
    assert lengths == {"train": [800, 1_600], "val": [400], "test": [800]}


def test_parts_of_one_file_are_in_one_split(tmp_path):
    files = [f"below/{number}.wav" for number in range(31)]
    lines = [f'{{"path": "{file}", "label": {part % 2}, "start": {part / 100}}}' for file in files for part in range(3)]
    tree(tmp_path, *files)
    source = manifest(tmp_path, "\n".join(lines), "list.jsonl", val_share=0.3, test_share=0.3)
    found = [{recording.file.name for recording, _ in source.listing[split]} for split in source.listing]
    assert all(found) and sum(map(len, found)) == 31


def test_ids_name_the_samples(tmp_path):
    source = manifest(tmp_path, "id,path,label\nfirst,a.wav,x\n7,c.wav,x\n", val_share=0.0, test_share=0.0)
    assert listed_in(source, "train") == ["first", "7"]


def listed_in(source, split):
    rows = source.rows(split)
    return [rows.name(i) for i in range(len(rows))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,class\na.wav,x\n", "no column 'label'; there are 'path', 'class'"),
        ("", "is empty"),
        ("path,label\n", "is empty"),
        ("path,label\na.wav,x\nc.wav,\n", "line 3 has None in its column 'label'"),
        ("path,label\n,x\n", "line 2 has None in its column 'path'"),
        ("path,label\na.wav,x\nc.wav,x\na.wav,y\n", r"line 4 repeats line 2 \(a.wav\)"),
        ("id,path,label\n5,a.wav,x\n5,c.wav,x\n", r"line 3 repeats line 2 \(5\)"),
        ("path,label\n../a.wav,x\n", "'../a.wav' is no path below"),
        ("path,label\nbelow/../../a.wav,x\n", "is no path below"),
        ("path,label\n/etc/passwd,x\n", "line 2: '/etc/passwd' is no path below"),
        ("path,label\nlink/a.wav,x\n", "link is a symbolic link"),
        ("path,label\nbelow/link.wav,x\n", "below/link.wav is a symbolic link"),
        ("path,label,split\na.wav,x,dev\n", "line 2 has 'dev' in its column 'split'"),
        ("path,label,split\na.wav,x,\n", "line 2 has None in its column 'split'"),
        ("path,label,start\na.wav,x,-1\n", "line 2 has '-1' in its column 'start'"),
        ("path,label,start\na.wav,x,nan\n", "line 2 has 'nan' in its column 'start'"),
        ("path,label,stop\na.wav,x,soon\n", "line 2 has 'soon' in its column 'stop'"),
        ("path,label,start,stop\na.wav,x,2,2\n", "line 2 stops at 2 s, not behind its start"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_before_training(tmp_path, text, reason):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "below/link.wav").symlink_to("b.wav")
    with pytest.raises(ValueError, match=reason):
        manifest(tmp_path, text, val_share=0.0, test_share=0.0).rows("train")


def test_a_split_in_some_lines_alone_is_refused(tmp_path):
    text = '{"path": "a.wav", "label": "x", "split": "train"}\n{"path": "c.wav", "label": "x"}'
    with pytest.raises(ValueError, match="line 2 has None in its column 'split'"):
        manifest(tmp_path, text, "list.jsonl").rows("train")


def test_files_that_are_not_there_are_all_counted(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^2 of the files .* first one {tmp_path}/d.wav"):
        manifest(tmp_path, "path,label\na.wav,x\nd.wav,x\nbelow,x\n").rows("train")


def test_the_folder_of_a_manifest_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    manifest(tmp_path / "real", "path,label\na.wav,x\n")
    Path(tmp_path / "link").symlink_to("real")
    source = AudioManifest(tmp_path / "link/list.csv", sample_rate=RATE, max_seconds=1.0, val_share=0.0, test_share=0.0)
    assert listed_in(source, "train") == ["a.wav"]
