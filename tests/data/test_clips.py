"""Clips: spans of equal length out of the videos in a folder."""

import os
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch

from perceiver.data.rows import BadSample
from perceiver.data.splits import split_of
from perceiver.data.video.clips import VideoClips
from perceiver.data.video.file import Frames, Sound
from perceiver.data.video.rewritten import RewrittenClips
from perceiver.data.video.same import SameVideos

av = pytest.importorskip("av", reason="video needs PyAV: pip install perceiver-lightning[video]")

RATE = 1_000  # Hz
FRAMES, SOUND = Frames(3, (16, 16)), Sound(RATE)


def write_ramp(file, seconds, late=0.0):
    """A video whose sound is the time, in s over 10, and whose pictures grow brighter; both start late."""
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=20, width=16, height=16, pix_fmt="yuv420p")
        audio = container.add_stream("pcm_f32le", rate=RATE, layout="mono")
        for number in range(round(20 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 30 + 2 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + round(20 * late), Fraction(1, 20)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        times = late + np.arange(round(seconds * RATE)) / RATE
        frame = av.AudioFrame.from_ndarray((times / 10).astype(np.float32)[None], format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = RATE, round(late * RATE), Fraction(1, RATE)
        for packed in av.AudioResampler(format="flt").resample(frame):
            container.mux(audio.encode(packed))
        container.mux(audio.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of 3 s and 2.3 s, of which one starts late, for each split."""
    root = tmp_path_factory.mktemp("videos")
    (root / "deep").mkdir()
    names = {
        split: [name for name in (f"deep/{n}.mov" for n in range(99)) if split_of(name, 0.3, 0.3) == split][:2] for split in ("train", "val", "test")
    }
    for first, second in names.values():
        write_ramp(root / first, 3.0)
        write_ramp(root / second, 2.3, late=0.5)
    return root, names


def clips(root, files="**/*.mov", **options):
    return VideoClips(root, files, **{"seconds": 0.7, "frames": FRAMES, "sound": SOUND, "val_share": 0.3, "test_share": 0.3, **options})


def start_of(row):
    return float(row["audio"][0, 0]) * 10


@pytest.mark.parametrize("split", ["val", "test"])
def test_clips_of_evaluation_follow_one_another_from_where_a_file_begins(folder, split):
    root, names = folder
    rows = clips(root).rows(split)
    starts = dict(zip(names[split], ([0.0, 0.7, 1.4, 2.1], [0.5, 1.2, 1.9]), strict=True))
    expected = [(f"{file}, clip {number}", start) for file in sorted(starts) for number, start in enumerate(starts[file])]
    found = [rows.row(index, np.random.default_rng(index)) for index in range(len(rows))]
    assert [rows.name(index) for index in range(len(rows))] == [name for name, _ in expected]
    assert np.allclose([start_of(row) for row in found], [start for _, start in expected], atol=1e-4)
    for row in found:
        assert row["video"].shape == (3, 3, 16, 16) and row["video"].dtype == torch.uint8
        assert row["audio"].shape == (1, 700) and row["audio"].dtype == torch.float32


def test_frames_and_sound_of_a_training_clip_are_of_one_time_wherever_it_starts(folder):
    root, names = folder
    rows = clips(root).rows("train")
    for index in range(len(rows)):
        starts = []
        for epoch in range(5):
            row = rows.row(index, np.random.default_rng((epoch, index)))
            late = 0.5 if rows.name(index).startswith(names["train"][1]) else 0.0
            shown = np.floor((start_of(row) + (np.arange(3) + 0.5) * 0.7 / 3 - late) * 20 + 1e-3)
            assert np.abs(row["video"][:, 0, 0, 0].numpy() - (30 + 2 * shown)).max() < 2
            starts.append(start_of(row))
        assert max(starts) - min(starts) > 0.02


def test_a_training_row_is_a_function_of_its_number_and_its_generator(folder):
    rows = clips(folder[0]).rows("train")
    copy = pickle.loads(pickle.dumps(rows))
    for index in (5, 0):
        one, other = rows.row(index, np.random.default_rng(3)), copy.row(index, np.random.default_rng(3))
        assert all(torch.equal(one[entry], other[entry]) for entry in ("video", "audio"))


def test_training_clips_start_anywhere_that_leaves_room_for_them(folder):
    root, names = folder
    rows = clips(root).rows("train")
    first = [index for index in range(7) if rows.name(index).startswith(names["train"][0])]
    starts = [start_of(rows.row(index, np.random.default_rng((n, index)))) for index in first for n in range(12)]
    assert 0 <= min(starts) < 0.3 and 2.0 < max(starts) <= 2.3


def test_no_file_is_in_two_splits_and_none_is_left_out(folder):
    root, names = folder
    files = {split: {rows.name(index).split(",")[0] for rows in [clips(root).rows(split)] for index in range(len(rows))} for split in names}
    assert files == {split: set(both) for split, both in names.items()}


@pytest.mark.parametrize("wanted, entries, ragged", [({"sound": None}, ("video",), ()), ({"frames": None}, ("audio",), ("audio",))])
def test_one_of_frames_and_sound_is_enough(folder, wanted, entries, ragged):
    source = clips(folder[0], **wanted)
    assert source.entries == entries and source.ragged == ragged
    assert source.rows("val").row(0, np.random.default_rng(0)).keys() == set(entries)


def test_a_file_shorter_than_a_clip_is_refused_before_training(folder):
    with pytest.raises(ValueError, match=r"1 files in .* shorter than a clip of 2.4 s, the first one deep/\d+.mov with 2.300 s: lower"):
        clips(folder[0], seconds=2.4).rows("train")


def test_a_file_that_is_no_video_is_refused_before_training(tmp_path):
    (tmp_path / "a.mov").write_bytes(b"no video")
    with pytest.raises(BadSample, match="a.mov: it is corrupt"):
        clips(tmp_path, val_share=0.0, test_share=0.0).rows("train")


def test_a_folder_without_videos_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"\*\*/\*.mov not found; looked in {tmp_path}"):
        clips(tmp_path).rows("train")


def test_an_empty_split_is_refused(folder):
    with pytest.raises(ValueError, match="no file of .* falls into the val split: add files, or change val_share"):
        clips(folder[0], val_share=0.0).rows("val")


def test_a_symbolic_link_is_refused(tmp_path, folder):
    (tmp_path / "in").mkdir()
    os.symlink(folder[0] / folder[1]["train"][0], tmp_path / "in/a.mov")
    with pytest.raises(ValueError, match="in/a.mov is reached through a symbolic link"):
        clips(tmp_path / "in").rows("train")


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"frames": None, "sound": None}, "at least one"),
        ({"seconds": 0.0}, "seconds=0.0: a clip has to last"),
        ({"files": "../*.mov"}, "pattern within the folder"),
        ({"val_share": 0.5, "test_share": 0.5}, "together below 1"),
        ({"density": 0}, "density=0"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        clips(tmp_path, **options)


def test_there_is_nothing_to_classify(tmp_path):
    with pytest.raises(ValueError, match="VideoClips has no classes"):
        _ = clips(tmp_path).task


def test_the_same_videos_are_in_all_splits_and_only_training_starts_anywhere(folder):
    source = SameVideos(folder[0], "**/*.mov", seconds=1.0, frames=FRAMES, sound=SOUND)
    train, val, test = (source.rows(split) for split in ("train", "val", "test"))
    names = [rows.name(i) for rows in (train, val, test) for i in range(len(rows))]
    assert len(train) == len(val) == len(test) == len(set(names)) == 6 * 2 + 3  # of 3 s three clips, of 2.3 s two, three of each
    draws = [np.random.default_rng(seed) for seed in (0, 1)]
    assert not torch.equal(*(train.row(0, draw)["audio"] for draw in draws))
    assert torch.equal(*(test.row(0, draw)["audio"] for draw in draws))


def test_denser_training_clips_start_closer_together_and_the_others_stay(folder):
    once, thrice = (SameVideos(folder[0], "**/*.mov", seconds=1.0, sound=SOUND, density=density) for density in (1, 3))
    assert len(thrice.rows("train")) == 3 * len(once.rows("train")) and len(thrice.rows("test")) == len(once.rows("test"))
    rows = thrice.rows("train")
    places = [rows._place(i) for i in range(len(rows))]
    starts = [rows.starts(stretch, 1.0, clip, np.random.default_rng(0)) for stretch, clip in places if stretch.file == places[0][0].file]
    room = places[0][0].end - places[0][0].begin - 1.0
    assert len(starts) % 3 == 0 and np.allclose(np.diff(starts), room / len(starts), atol=2e-3)


def test_an_autoencoder_gets_frames_between_0_and_1_and_the_same_sound(folder):
    clips = SameVideos(folder[0], "**/*.mov", seconds=1.0, frames=FRAMES, sound=SOUND)
    source = RewrittenClips(clips)
    row, clip = (one.rows("test").row(1, np.random.default_rng(0)) for one in (source, clips))
    assert source.entries == ("image", "audio") and source.ragged == () and source.task == {}
    assert torch.equal(row["image"], clip["video"].float() / 255) and torch.equal(row["audio"][:, 0], clip["audio"][0])
    assert RewrittenClips(SameVideos(folder[0], "**/*.mov", seconds=1.0, sound=SOUND)).entries == ("audio",)
