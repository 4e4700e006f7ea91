"""Video: frames and sound of one span lie on the clock of the file, and nothing is shown or heard that is not there."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from perceiver.data.audio.file import downmix
from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample
from perceiver.data.video.container import Container
from perceiver.data.video.file import Frames, Sound, extent, read_clip

av = pytest.importorskip("av", reason="video needs PyAV: pip install perceiver-lightning[video]")

VIDEOS = Path(__file__).parent.parent.parent.parent / "shared/data/video"
NASA, BUNNY = VIDEOS / "nasa_13013.mp4", VIDEOS / "bigbuckbunny.mp4"
real = pytest.mark.skipif(not NASA.exists(), reason=f"the real videos are not there: {VIDEOS}")
TICKS = 90_000  # of the timestamps of pictures, a second
PCM = {"picture": "libx264", "sound": "pcm_s16le"}
SIZE = (6, 10)
LIMITS = Limits()


def write_clip(
    file, light, wave, *, fps=25, rate=16_000, seconds=1.4, picture_at=0.0, sound_at=0.0, picture="libx264", sound="aac", options=None, **encoder
):
    """A video whose picture has the brightness `light(time)`, and whose sound is `wave(times)`; its streams start when they are told to."""
    fps = Fraction(fps)
    with av.open(str(file), "w", options=options or {}) as container:
        video = container.add_stream(picture, rate=fps, width=16, height=16, pix_fmt="yuv420p", options={"g": "7", **encoder})
        video.codec_context.time_base = Fraction(1, TICKS)
        audio = container.add_stream(sound, rate=rate, layout="mono")
        audio.codec_context.open(strict=False)
        for number in range(round(seconds * fps)):
            time = Fraction(picture_at).limit_denominator(1000) + number / fps
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), round(40 + 200 * light(float(time))), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        step = audio.codec_context.frame_size or 1000
        convert = av.AudioResampler(format=audio.codec_context.format.name)
        samples = wave(sound_at + np.arange(round(seconds * rate)) / rate).astype(np.float32)
        for start in range(0, len(samples), step):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + step].copy(), format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = rate, round(sound_at * rate) + start, Fraction(1, rate)
            for converted in convert.resample(frame):
                container.mux(audio.encode(converted))
        container.mux(audio.encode())
    return file


def chirp(times):
    """A tone that rises, so that no stretch of it is like another."""
    return 0.5 * np.sin(2 * np.pi * (300 * times + 400 * times**2))


def dim(time):
    return 0.5


def clip(file, **span):
    """Both streams of a span, small."""
    options = {"start": 0.0, "seconds": 0.5, "frames": Frames(3, SIZE), "sound": Sound(16_000), "limits": LIMITS, **span}
    return read_clip(file, "a clip", **options)


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize("fps, rate, wanted_rate", [(25, 16_000, 16_000), ("30000/1001", 44_100, 16_000), (24, 8_000, 11_025)])
@pytest.mark.parametrize("picture_at, sound_at", [(0.0, 0.0), (0.2, 0.0), (0.08, 0.125)])
def test_a_flash_and_a_click_at_one_time_are_found_at_one_time_to_the_millisecond(tmp_path, suffix, fps, rate, wanted_rate, picture_at, sound_at):
    events = [picture_at + float(number / Fraction(fps)) for number in (10, 20)]  # flashes can only begin with a frame

    def on(times):
        return sum((np.asarray(times) > event - 1e-6) & (np.asarray(times) < event + 0.1) for event in events)

    file = write_clip(
        tmp_path / f"flash{suffix}", on, lambda times: 0.8 * on(times), fps=fps, rate=rate, picture_at=picture_at, sound_at=sound_at, **PCM
    )
    for event in events:
        start = round(event - 0.0837, 4)
        video, audio = clip(file, start=start, seconds=0.1, frames=Frames(200, SIZE), sound=Sound(wanted_rate))
        flash = start + (int((video[:, 0, 0, 0] > 140).nonzero()[0]) + 0.5) * 0.1 / 200
        click = start + int((audio[0] > 0.4).nonzero()[0]) / wanted_rate
        assert audio.shape == (1, round(0.1 * wanted_rate))
        assert abs(flash - event) < 1e-3 and abs(click - event) < 1e-3


@pytest.mark.parametrize(
    "name, codecs",
    [("a.mp4", ("libx264", "aac")), ("a.mkv", ("libx264", "aac")), ("a.webm", ("libvpx", "libopus")), ("a.ts", ("libx264", "aac"))],
)
@pytest.mark.parametrize("start", [0.0, 0.303, 0.7])
def test_priming_samples_of_lossy_codecs_do_not_move_the_sound(tmp_path, name, codecs, start):
    file = write_clip(tmp_path / name, lambda time: time / 2, chirp, rate=48_000, picture=codecs[0], sound=codecs[1])
    begin, _ = extent(file, "a clip", frames=Frames(1, SIZE), sound=None, limits=LIMITS)  # MPEG-TS has no time before 0, and moves all to later
    video, audio = clip(file, start=begin + start, sound=Sound(48_000))
    original = torch.from_numpy(chirp(np.arange(-480, 67_680) / 48_000)).float()
    lags = [float(audio[0] @ original[480 + round(start * 48_000) + lag :][: audio.shape[1]]) for lag in range(-480, 480)]
    assert audio.shape == (1, 24_000) and abs(np.argmax(lags) - 480) < 48
    brightness = video[:, 0, 0, 0].double().diff()
    assert ((brightness > 0) & (brightness < 40)).all()


@real
@pytest.mark.parametrize("stream, named", [(0, (180, 320)), (1, (270, 480))])
def test_frames_are_the_last_ones_whose_time_has_come(stream, named):
    with av.open(str(NASA)) as container:
        everything = [(frame.time, frame.to_ndarray(format="rgb24")) for frame, _ in zip(container.decode(video=stream), range(140), strict=False)]
    for start, count in ((0.0, 3), (1.2345, 5), (3.52, 2)):
        video, none = clip(NASA, start=start, seconds=0.7, frames=Frames(count, named, stream=named), sound=None)
        instants = start + (np.arange(count) + 0.5) * 0.7 / count
        reference = [[pixels for time, pixels in everything if time <= instant][-1] for instant in instants]
        assert none is None
        assert torch.equal(video, torch.from_numpy(np.stack(reference)).permute(0, 3, 1, 2))


@real
@pytest.mark.parametrize("stream, rate", [(0, 8_000), (1, 16_000)])
def test_sound_is_cut_out_of_the_stream_to_the_sample(stream, rate):
    with av.open(str(NASA)) as container:
        everything = np.concatenate([piece.to_ndarray() for piece in container.decode(audio=stream)], axis=1)
    for start in (0.0, 0.3, 1.23456, 7.0, 12.3):
        _, audio = clip(NASA, start=start, seconds=0.7, frames=None, sound=Sound(rate, 2, stream=stream))
        first = round(start * rate)
        assert torch.equal(audio, torch.from_numpy(everything[:, first : first + round(0.7 * rate)]))


@real
def test_spans_side_by_side_give_the_resampled_whole():
    whole = clip(NASA, start=2.0, seconds=0.9, frames=None, sound=Sound(11_025))[1]
    parts = [clip(NASA, start=start, seconds=0.3, frames=None, sound=Sound(11_025))[1] for start in (2.0, 2.3, 2.6)]
    together = torch.cat(parts, dim=1)
    assert [part.shape[1] for part in parts] == [3308] * 3  # 3307.5, rounded to even
    begins = [round(start * 11_025) - 22_050 for start in (2.0, 2.3, 2.6)]
    for begin, part in zip(begins, parts, strict=True):
        inside = whole[:, begin : begin + part.shape[1]]
        assert torch.allclose(part[:, : inside.shape[1]], inside, atol=1e-5)
    assert together.abs().max() > 0.01


@real
@pytest.mark.parametrize("channels", [1, 2])
def test_six_channels_are_mixed_down_as_in_sound_files(channels):
    with av.open(str(BUNNY)) as container:
        everything = np.concatenate([piece.to_ndarray() for piece, _ in zip(container.decode(audio=0), range(70), strict=False)], axis=1)
    video, audio = clip(BUNNY, start=0.9, seconds=0.3, frames=Frames(2, (23, 41)), sound=Sound(48_000, channels))
    assert video.shape == (2, 3, 23, 41) and audio.shape == (channels, 14_400)
    reference = downmix(torch.from_numpy(everything), channels)[:, 43_200 : 43_200 + 14_400]
    assert torch.allclose(audio, reference, atol=1e-6) and audio.abs().max() > 0.01


def test_sound_that_ends_within_the_span_is_shorter_and_never_padded(tmp_path):
    file = write_clip(tmp_path / "a.mp4", dim, chirp, seconds=1.2, rate=8_000)
    with av.open(str(file)) as container:
        decoded = sum(piece.samples for piece in container.decode(audio=0))
    assert decoded > 9_600  # the encoder filled its last packet
    _, audio = clip(file, start=0.9, seconds=0.5, frames=None, sound=Sound(8_000))
    assert audio.shape == (1, 2_400)
    assert clip(file, start=0.9, seconds=0.3, frames=None, sound=Sound(8_000))[1].shape == (1, 2_400)


@pytest.mark.parametrize(
    "start, complaint", [(0.0, "no frame is shown at 0.083 s: the first one comes at 0.200"), (1.5, "no frame is shown at 1.750 s.* 1.600 s")]
)
def test_no_frame_is_shown_outside_its_stream(tmp_path, start, complaint):
    file = write_clip(tmp_path / "a.mov", dim, chirp, picture_at=0.2, **PCM)
    with pytest.raises(BadSample, match=f"^a clip: {complaint}"):
        clip(file, start=start, sound=None)


@pytest.mark.parametrize(
    "start, complaint",
    [(0.1, "no sound at 0.100 s: it starts at 0.300 s"), (1.8, "no sound at 1.800 s: it ends"), (99.0, "no sound at 99.000 s: it ends")],
)
def test_no_sound_is_heard_outside_its_stream(tmp_path, start, complaint):
    file = write_clip(tmp_path / "a.mov", dim, chirp, sound_at=0.3, **PCM)
    with pytest.raises(BadSample, match=f"^a clip: there is {complaint}"):
        clip(file, start=start, frames=None)


def test_the_extent_is_where_all_streams_have_something(tmp_path):
    file = write_clip(tmp_path / "a.mov", dim, chirp, picture_at=0.2, sound_at=0.3, seconds=1.2, **PCM)
    both = extent(file, "a clip", frames=Frames(1, SIZE), sound=Sound(16_000), limits=LIMITS)
    assert both == (0.3, 1.4)
    assert extent(file, "a clip", frames=None, sound=Sound(16_000), limits=LIMITS) == (0.3, 1.5)


@pytest.mark.parametrize("rate", [44_100, 22_050])
def test_there_is_sound_and_a_picture_from_where_the_extent_begins_to_where_it_ends(tmp_path, rate):
    file = write_clip(tmp_path / "a.ts", dim, chirp, rate=rate)  # its clock does not tick in milliseconds
    frames, sound = Frames(40, SIZE), Sound(rate)
    for wanted in ({"frames": frames, "sound": None}, {"frames": None, "sound": sound}, {"frames": frames, "sound": sound}):
        begin, end = extent(file, "a clip", limits=LIMITS, **wanted)
        video, audio = clip(file, start=begin, seconds=end - begin, **wanted)
        assert video is None or len(video) == 40
        assert audio is None or audio.shape[1] == round((end - begin) * rate)


@real
def test_a_stream_that_is_not_there_is_missed_by_naming_those_that_are():
    with pytest.raises(BadSample, match=r"a clip: it has no video stream 2; of this kind it has: 0 \(180, 320\), 1 \(270, 480\)"):
        clip(NASA, frames=Frames(3, SIZE, stream=2))
    with pytest.raises(BadSample, match="it has no audio stream 'fra'; of this kind it has: 0 eng, 1 eng"):
        clip(NASA, sound=Sound(16_000, stream="fra"))


def test_a_cover_is_no_video_stream(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=5, width=32, height=32, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        film = container.add_stream("libx264", rate=5, width=16, height=16, pix_fmt="yuv420p")
        for stream in (cover, film):
            frame = av.VideoFrame.from_ndarray(np.zeros((stream.height, stream.width, 3), np.uint8), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(BadSample, match=r"of this kind it has: 0 \(16, 16\)$"):
        clip(tmp_path / "a.mp4", frames=Frames(3, SIZE, stream=1))


def test_a_sound_file_has_no_video_stream(tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.int16), format="s16", layout="mono")
        frame.rate = 8_000
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(BadSample, match="it has no video stream 0; of this kind it has: none"):
        clip(tmp_path / "a.mov")


@pytest.mark.parametrize(
    "limits, complaint",
    [
        (Limits(bytes=1_000), "bytes are more than the limit of 1000"),
        (Limits(pixels=255), "256 pixels are more than the limit of 255"),
        (Limits(seconds=1.3), "1.4 seconds are more than the limit of 1.3"),
        (Limits(sample_rate=8_000), "16000 sample rate are more than the limit of 8000"),
        (Limits(frames=5), "6 frames are more than the limit of 5"),
    ],
)
def test_a_file_beyond_a_limit_is_refused(tmp_path, limits, complaint):
    file = write_clip(tmp_path / "a.mp4", dim, chirp)
    with pytest.raises(BadSample, match=f"^a clip: .*{complaint}"):
        clip(file, limits=limits)


@real
def test_too_many_channels_are_refused():
    with pytest.raises(BadSample, match="6 channels are more than the limit of 5"):
        clip(BUNNY, frames=None, limits=Limits(channels=5))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_was_cut_off_is_whole_or_refused_wherever_it_was_cut(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    data = write_clip(tmp_path / f"a{suffix}", lambda time: time / 2, chirp, options=options).read_bytes()
    wanted = clip(tmp_path / f"a{suffix}", start=0.8)
    cut, refused = tmp_path / f"b{suffix}", 0
    for stop in range(0, len(data), len(data) // 29):
        cut.write_bytes(data[:stop])
        try:
            found = clip(cut, start=0.8)
        except BadSample as error:
            assert str(error).startswith("a clip: ")
            refused += 1
        else:
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert refused > 20


@pytest.mark.parametrize("packet", range(7))
def test_corrupt_content_is_refused_rather_than_painted_over(tmp_path, packet):
    data = bytearray(write_clip(tmp_path / "a.mp4", lambda time: time / 2, chirp).read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as container:
        position, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][packet]
    for place in range(position + 5, position + size):
        data[place] ^= 0xFF
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(BadSample, match="^a clip: (it is corrupt|its video is corrupt at|no frame is shown)"):
        clip(tmp_path / "a.mp4", sound=None)


@pytest.mark.parametrize("lost", [9, 12, 20])
def test_a_packet_that_was_lost_on_the_way_is_missed(tmp_path, lost):
    file = write_clip(tmp_path / "a.ts", lambda time: time / 2, chirp)
    data = file.read_bytes()
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    of_pictures = [number for number, packet in enumerate(packets) if int.from_bytes(packet[1:3]) & 0x1FFF == 0x100]
    del packets[of_pictures[lost]]
    file.write_bytes(b"".join(packets))
    with pytest.raises(BadSample, match="^a clip: its video is corrupt at"):
        clip(file, start=0.1, seconds=1.2, sound=None)


PLAYLISTS = (b"ffconcat version 1.0\nfile other.ts\n", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 99, *PLAYLISTS])
def test_what_is_no_video_is_refused_and_a_playlist_opens_no_other_file(tmp_path, content):
    write_clip(tmp_path / "other.ts", dim, chirp)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(BadSample, match="a clip: it is corrupt, cut off, or in none of the formats mov"):
        clip(tmp_path / "a.mp4", start=0.1)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("absent.mp4", "pipe.mp4", "."):
        with pytest.raises(BadSample, match="a clip: there is no such file"):
            clip(tmp_path / name)


def test_a_hole_in_the_sound_is_refused_not_closed(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        for start in (0, 800, 1_600, 4_000, 4_800):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = 8_000, start, Fraction(1, 8_000)
            container.mux(stream.encode(frame))
    assert clip(tmp_path / "a.mkv", seconds=0.2, frames=None, sound=Sound(8_000))[1].shape == (1, 1_600)
    with pytest.raises(BadSample, match="its sound has a hole from 0.300 to 0.500 s"):
        clip(tmp_path / "a.mkv", frames=None, sound=Sound(8_000))


OPEN_GROUPS = {"x264-params": "open-gop=1:bframes=3:keyint=8:scenecut=0"}


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_frames_that_refer_to_what_was_skipped_are_decoded_from_further_back(tmp_path, suffix):
    file = write_clip(tmp_path / f"a{suffix}", lambda time: time / 2, chirp, **OPEN_GROUPS)
    with av.open(str(file)) as container:
        everything = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    for start in np.linspace(0.113, 1.013, 10):
        video, _ = clip(file, start=float(start), seconds=0.36, frames=Frames(3, (16, 16)), sound=None)
        reference = [[pixels for time, pixels in everything if time <= start + part * 0.12 + 0.06][-1] for part in range(3)]
        assert np.array_equal(video.permute(0, 2, 3, 1), np.stack(reference))


def test_no_frame_comes_twice_when_decoding_starts_again_further_back(tmp_path, monkeypatch):
    container = Container(write_clip(tmp_path / "a.mp4", dim, chirp), "a clip", LIMITS)
    expected = [frame.time for frame in container.decoded("video", 0, 0.7)]
    whole, starts = Container._frames, []

    def broken_at_first(self, opened, stream):
        starts.append(stream)
        for number, frame in enumerate(whole(self, opened, stream)):
            if len(starts) == 1 and number == 5:
                raise self.bad("it refers to what was skipped")
            yield frame

    monkeypatch.setattr(Container, "_frames", broken_at_first)
    found = [frame.time for frame in container.decoded("video", 0, 0.7)]
    assert len(starts) == 2 and found == expected


@pytest.mark.parametrize("groups", [{}, OPEN_GROUPS], ids=["closed", "open"])
def test_a_recording_that_begins_in_the_middle_is_shown_from_its_first_whole_picture_on(tmp_path, groups):
    file = write_clip(tmp_path / "a.ts", lambda time: time / 2, chirp, **groups)
    wanted, _ = clip(file, start=0.8, frames=Frames(3, (16, 16)), sound=None)
    data = file.read_bytes()
    file.write_bytes(data[188 * 30 :])
    assert torch.equal(clip(file, start=0.8, frames=Frames(3, (16, 16)), sound=None)[0], wanted)
    with pytest.raises(BadSample, match="no frame is shown at 0.183 s: the first one comes at"):
        clip(file, start=0.1, sound=None)


def test_a_picture_that_was_filmed_sideways_is_turned_upright(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5, width=32, height=16, pix_fmt="yuv420p")
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, :16] = 240  # left half
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode()])
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44  # ISO 14496-12: nine numbers, (a, b, u), (c, d, v), (x, y, w); x' = a x + c y, y' = b x + d y
    data[matrix : matrix + 36] = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    (tmp_path / "a.mp4").write_bytes(data)
    video, _ = clip(tmp_path / "a.mp4", seconds=0.1, frames=Frames(1, (32, 16)), sound=None)
    assert video.shape == (1, 3, 32, 16)
    assert video[0, :, :14].min() > 200 and video[0, :, 18:].max() < 50  # left has become the top: a quarter turn to the right


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install perceiver-lightning\[video\]"):
        clip(tmp_path / "a.mp4")


@pytest.mark.parametrize("make", [lambda: Frames(0, SIZE), lambda: Frames(3, (0, 4)), lambda: Sound(0), lambda: Sound(8_000, 0)])
def test_nothing_to_take_is_refused(make):
    with pytest.raises(ValueError, match="give at least 1"):
        make()
