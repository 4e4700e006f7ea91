"""Datasets of sound files: which part of a long sound is heard, and what folders and manifests say."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceiver.data import BadSample
from perceiver.data.audio.folder import AudioFolder
from perceiver.data.audio.manifest import AudioManifest
from perceiver.data.audio.sounds import CROPS, Recording, SoundFiles, SoundForm, middle_crop, random_crop
from tests.builders import bounded

RATE = 8_000


def noise(frames, seed=0):
    """A waveform, (s, 1), that 16 bits hold exactly."""
    return np.random.default_rng(seed).integers(-9_000, 9_000, (frames, 1)).astype(np.int16)


def encoded(values, rate=RATE, form="WAV"):
    """The content of a sound file."""
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=form)
    return file.getvalue()


# Which part is heard


def sounds(tmp_path, frames, *, rate=RATE, seconds, crop=middle_crop, sample_rate=RATE, form="WAV", **part):
    file = tmp_path / "sound"
    values = noise(frames, seed=5)
    file.write_bytes(encoded(values, rate, form))
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
    with pytest.raises(BadSample, match="^the sample: there is no sound from .* to .*: the file has 0.125 s"):
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
        ("id,path,label\n5,a.wav,x\n6,a.wav,x\n", r"line 3 repeats line 2 \(6\)"),
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


def test_a_time_that_no_float_can_hold_is_refused_by_its_line_and_not_in_full(tmp_path):
    text = '{"path": "a.wav", "label": "x", "start": 1' + "0" * 400 + "}"
    with pytest.raises(ValueError, match=r"line 1 has 10{99}\.\.\. in its column 'start'"):
        manifest(tmp_path, text, "list.jsonl").rows("train")


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
