"""Manifests: rows have what their cells say, and what is wrong with a table is said with its line before training."""

import csv
import json
import os
import pickle
import wave
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image

from perceiver.data.batch import collate
from perceiver.data.columns import AudioColumn, ImageColumn, TextColumn, VideoColumn, VideoSoundColumn
from perceiver.data.image.file import read_picture
from perceiver.data.limits import Limits
from perceiver.data.manifest import Manifest
from perceiver.data.rows import BadSample
from perceiver.data.source import Source
from perceiver.data.splits import split_of
from perceiver.data.table import LINE_BYTES
from perceiver.data.text.table import keep_start
from perceiver.data.video.file import Frames, Sound, read_clip
from perceiver.tokenizer import decode

RATE = 1_000  # Hz
HEADER = "split,image,audio,text,label"
TABLE = f"""{HEADER}
train,pictures/1.png,,"a black, black cat",cat
train,,sounds/2.wav,,7
train,pictures/3.png,sounds/3.wav,schnurrt schön,
train,,sounds/2.wav,,cat
train,,,eleven,7
val,pictures/1.png,sounds/3.wav,purrs,cat
"""
PRESENT = {"image": [True, False, True, False, False], "audio": [False, True, True, True, False], "text": [True, False, True, False, True]}


def modalities():
    return {"image": ImageColumn((3, 5)), "audio": AudioColumn(RATE, 0.037), "text": TextColumn(19)}


def write_sound(file, samples):
    with wave.open(str(file), "wb") as opened:
        opened.setparams((1, 2, RATE, 0, "NONE", ""))
        opened.writeframes((np.arange(samples) * 100).astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "sounds").mkdir()
    for number in (1, 3):
        pixels = np.random.default_rng(number).integers(256, size=(3, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"pictures/{number}.png")
    write_sound(tmp_path / "sounds/2.wav", 23)
    write_sound(tmp_path / "sounds/3.wav", 31)
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def manifest(folder, text=None, file="table.csv", **options):
    """The manifest of a folder, with another table when one is given."""
    if text is not None:
        (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
    return Manifest(folder / file, **{"columns": modalities(), **options})


def all_rows(source, split="train"):
    rows = source.rows(split)
    return [rows.row(index, np.random.default_rng(index)) for index in range(len(rows))]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)


def test_a_batch_has_what_the_cells_have(folder):
    source = manifest(folder)
    rows = all_rows(source)
    batch = collate([row | {"target": row.get("target", -1)} for row in rows], source.entries, source.ragged)
    assert {entry: batch[f"{entry}_present"].tolist() for entry in source.entries} == PRESENT
    assert source.classes == ("7", "cat") and batch["target"].tolist() == [1, 0, -1, 1, 0]
    pictures = [read_picture("it", folder / f"pictures/{number}.png", 3, Limits()) for number in (1, 3)]
    assert torch.equal(batch["image"], torch.stack(pictures))
    assert batch["audio_length"].tolist() == [23, 31, 23]
    assert torch.equal(batch["audio"][1, 0], torch.arange(31) * 100 / 2**15)
    texts = [decode(ids[:length].tolist()).decode() for ids, length in zip(batch["text"], batch["text_length"], strict=True)]
    assert texts == ["a black, black cat", "schnurrt schön", "eleven"]


def test_a_row_without_a_label_has_no_target(folder):
    assert ["target" in row for row in all_rows(manifest(folder))] == [True, True, False, True, True]


def test_the_same_table_in_other_formats_gives_the_same_rows(folder):
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        lines = [{key: cell or None for key, cell in line.items()} for line in csv.DictReader(file)]
    numbers = [line | {"label": 7} if line["label"] == "7" else line for line in lines]
    (folder / "table.jsonl").write_text("\n".join(json.dumps(line) for line in numbers))
    expected = all_rows(manifest(folder))
    assert all(map(equal, all_rows(manifest(folder, file="table.jsonl")), expected))
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow: pip install perceiver-lightning[parquet]")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.Table.from_pylist(lines), folder / "table.parquet")
    assert all(map(equal, all_rows(manifest(folder, file="table.parquet")), expected))


def test_a_line_of_json_may_leave_out_what_it_lacks_if_no_modality(folder):
    lines = [{"image": "pictures/1.png", "audio": "sounds/2.wav", "text": "", "label": "a"}, {"image": None, "audio": None, "text": "b"}]
    source = manifest(folder, "\n".join(map(json.dumps, lines)), "a.jsonl", val_share=0.0, test_share=0.0)
    assert [sorted(row) for row in all_rows(source)] == [["audio", "image", "target"], ["text"]]


def test_a_sound_is_cropped_at_random_in_training_and_to_its_middle_otherwise(folder):
    source = manifest(folder, columns={"audio": AudioColumn(RATE, 0.011)})
    (folder / "table.csv").write_text("split,audio\ntrain,sounds/2.wav\nval,sounds/2.wav\n")
    starts = {
        split: {round(float(source.rows(split).row(0, np.random.default_rng(n))["audio"][0, 0]) * 2**15 / 100) for n in range(40)}
        for split in ("train", "val")
    }
    assert starts == {"train": set(range(13)), "val": {6}}


def test_rows_survive_the_way_to_a_data_worker(folder):
    rows = manifest(folder).rows("train")
    copy = pickle.loads(pickle.dumps(rows))
    assert all(equal(rows.row(index, np.random.default_rng(1)), copy.row(index, np.random.default_rng(1))) for index in range(5))


def test_without_a_split_column_a_hash_of_the_id_says_it(folder):
    ids = [f"sample {number}" for number in range(60)]
    source = manifest(folder, "id,text\n" + "".join(f"{id},word\n" for id in ids), columns={"text": TextColumn(5)}, val_share=0.2, test_share=0.3)
    for split in ("train", "val", "test"):
        rows = source.rows(split)
        assert [rows.samples[index].id for index in range(len(rows))] == [id for id in ids if split_of(id, 0.2, 0.3) == split]


def test_rows_are_named_by_table_line_and_id(folder):
    assert [manifest(folder).rows("train").name(index) for index in (0, 4)] == ["table.csv, line 2", "table.csv, line 6"]
    named = manifest(folder, "id,split,text\nx,train,one\n", columns={"text": TextColumn(5)})
    assert named.rows("train").name(0) == "x (table.csv, line 2)"


def test_given_classes_keep_their_order(folder):
    source = manifest(folder, classes=["dog", "cat", "7"])
    assert [row.get("target") for row in all_rows(source)] == [1, 2, None, 1, 2]
    assert source.task == {"task": "classification", "num_classes": 3}


def test_a_table_without_labels_has_nothing_to_classify(folder):
    source = manifest(folder, "text,split\none,train\n", columns={"text": TextColumn(5)})
    assert list(all_rows(source)[0]) == ["text"]
    with pytest.raises(ValueError, match="Manifest has no classes to learn: give its rows labels"):
        _ = source.task


def test_a_column_may_have_another_name_than_the_modality(folder):
    source = manifest(folder, "split,caption\ntrain,one\n", columns={"text": TextColumn(5, column="caption")})
    assert decode(all_rows(source)[0]["text"].tolist()) == b"one"


@pytest.mark.parametrize(
    "table, complaint",
    [
        ("split,image,text\ntrain,pictures/1.png,x\n", "table.csv has no column 'audio'; there are 'split', 'image', 'text'"),
        ("", "table.csv is empty"),
        (f"{HEADER}\n", "table.csv is empty"),
        (f"{HEADER}\ntrain,../a.png,,,\n", r"table.csv, line 2: '\.\./a.png' is no path below"),
        (f"{HEADER}\ntrain,/etc/a.png,,,\n", "table.csv, line 2: '/etc/a.png' is no path below"),
        (f"{HEADER}\ntrain,link/1.png,,,\n", "table.csv, line 2: .*link is a symbolic link"),
        (f"{HEADER}\ntrain,,,x,\ntrain,,,,cat\n", "table.csv, line 3 has none of image, audio, text"),
        (f"{HEADER}\ntrain,pictures/1.png,sounds/2.wav,,\nval,,,x,\n", "table.csv has no 'text' in any of the 1 samples of the split 'train'"),
        (f"{HEADER}\nval,,,x,\n", "table.csv has no sample of the split 'train'"),
        (f"{HEADER}\ntrian,,,x,\n", "table.csv, line 2 has 'trian' in its column 'split': write train, val, test"),
        (f"{HEADER}\n,,,x,\n", "table.csv, line 2 has None in its column 'split'"),
        (f"id,{HEADER}\n1,train,,,x,\n2,train,,,y,\n1,val,,,z,\n", "table.csv, line 4 repeats the id '1' of line 2"),
        (f"id,{HEADER}\n1,train,,,x,\n,train,,,y,\n", "table.csv, line 3 has no id"),
        (f"{HEADER}\ntrain,,,x,cat\nval,,,x,dog\n", "table.csv, line 3 has the label 'dog', the label of no training sample"),
        (f"{HEADER}\ntrain,,,{'x' * 20},\n", "table.csv, line 2: a text of 20 bytes is longer than max_bytes=19"),
        (f"{HEADER}\ntrain,,,x,".encode() + b"\xff\n", "table.csv, line 2 is not UTF-8"),
        (f"{HEADER}\ntrain,pictures/\0.png,,,\n", "table.csv, line 2 has a NUL byte"),
        (f"{HEADER}\ntrain,,,{'x' * LINE_BYTES},\n", "table.csv, line 2 is longer than 10,000,000 bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "bytes",
)
def test_a_table_that_is_wrong_is_refused_before_training(folder, table, complaint):
    os.symlink(folder / "pictures", folder / "link")
    with pytest.raises(ValueError, match=complaint):
        manifest(folder, table).rows("train")


@pytest.mark.parametrize(
    "cells, complaint",
    [
        ({"image": "pictures/\0.png"}, "is no path below"),
        ({"text": 2.5}, "line 1 has 2.5 in its column 'text': write words"),
        ({"label": True, "text": "x"}, "line 1 has True in its column 'label'"),
        ({"audio": ["sounds/2.wav"]}, "line 1 has .* in its column 'audio'"),
    ],
)
def test_a_cell_of_json_that_is_no_text_is_refused(folder, cells, complaint):
    line = {"image": None, "audio": None, "text": None, **cells}
    with pytest.raises(ValueError, match=complaint):
        manifest(folder, json.dumps(line), "a.jsonl").rows("train")


def test_files_that_are_not_there_are_counted_before_training(folder):
    (folder / "pictures/1.png").unlink()
    (folder / "sounds/3.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 of the files that the table names are not there, the first one .*pictures/1.png"):
        manifest(folder).rows("train")


def test_a_table_that_is_not_there_is_missed(folder):
    with pytest.raises(FileNotFoundError, match="absent.csv is not there"):
        manifest(folder, file="absent.csv").rows("train")


@pytest.mark.parametrize("file, index", [("pictures/1.png", 0), ("sounds/2.wav", 1)])
def test_a_file_that_cannot_be_decoded_is_named_by_its_line(folder, file, index):
    (folder / file).write_bytes(b"nothing of the kind")
    with pytest.raises(BadSample, match=f"^table.csv, line {index + 2}: "):
        manifest(folder).rows("train").row(index, np.random.default_rng(0))


@pytest.mark.parametrize("limits, index, complaint", [(Limits(pixels=14), 0, "15 pixels"), (Limits(seconds=0.02), 1, "0.023 seconds")])
def test_limits_hold_for_every_modality(folder, limits, index, complaint):
    with pytest.raises(BadSample, match=f"^table.csv, line {index + 2}: {complaint} are more than the limit"):
        manifest(folder, limits=limits).rows("train").row(index, np.random.default_rng(0))


def test_a_long_text_is_cut_when_it_is_said_how(folder):
    source = manifest(folder, "split,text\ntrain,seven bytes\n", columns={"text": TextColumn(7, cut=keep_start)})
    assert decode(all_rows(source)[0]["text"].tolist()) == b"seven b"


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda file: Manifest(file, columns={}), "name at least one modality"),
        (lambda file: Manifest(file, columns={"target": TextColumn(5)}), "cannot be called 'target'"),
        (lambda file: manifest(file.parent, classes=["cat", "cat"]), "comes twice"),
        (lambda file: manifest(file.parent, val_share=0.6, test_share=0.4), "together below 1"),
        (lambda file: ImageColumn((0, 5)), "at least 1 row"),
        (lambda file: ImageColumn((3, 5), channels=2), "channels=2"),
        (lambda file: AudioColumn(RATE, 0.0), "at least one sample"),
        (lambda file: TextColumn(0), "max_bytes=0"),
        (lambda file: VideoColumn(0.0, Frames(3, (5, 7))), "seconds=0.0"),
    ],
)
def test_impossible_settings_are_refused(folder, make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(folder / "table.csv")


def write_video(file):
    av = pytest.importorskip("av", reason="video needs PyAV: pip install perceiver-lightning[video]")
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=20, width=16, height=16, pix_fmt="yuv420p")
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(40):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), 5 * number, np.uint8), format="rgb24")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(np.arange(2 * RATE, dtype=np.int16)[None], format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux([*audio.encode(frame), *audio.encode()])


def test_frames_and_sound_of_a_video_are_of_the_span_that_the_cell_names(folder):
    write_video(folder / "a.mov")
    frames, sound = Frames(3, (5, 7)), Sound(RATE)
    columns = {"video": VideoColumn(0.4, frames), "audio": VideoSoundColumn(0.4, sound, column="video")}
    rows = all_rows(manifest(folder, "split,video\ntrain,a.mov\ntrain,a.mov#t=1.25\n", columns=columns))
    for row, start in zip(rows, (0.0, 1.25), strict=True):
        video, audio = read_clip(folder / "a.mov", "it", start=start, seconds=0.4, frames=frames, sound=sound, limits=Limits())
        assert torch.equal(row["video"], video) and torch.equal(row["audio"], audio)
        assert round(float(audio[0, 0]) * 2**15) == round(start * RATE)
    assert columns["audio"].ragged and not columns["video"].ragged


YAML = """
source:
  class_path: perceiver.data.manifest.Manifest
  init_args:
    file: {file}
    columns:
      image:
        class_path: perceiver.data.columns.ImageColumn
        init_args: {{size: [3, 5]}}
      audio:
        class_path: perceiver.data.columns.AudioColumn
        init_args: {{sample_rate: 1000, max_seconds: 0.037}}
      text:
        class_path: perceiver.data.columns.TextColumn
        init_args: {{max_bytes: 19}}
    limits: {{pixels: 99}}
"""
VIDEO_YAML = """
source:
  class_path: perceiver.data.manifest.Manifest
  init_args:
    file: table.csv
    columns:
      video:
        class_path: perceiver.data.columns.VideoColumn
        init_args: {seconds: 0.4, frames: {count: 3, size: [5, 7]}}
      audio:
        class_path: perceiver.data.columns.VideoSoundColumn
        init_args: {seconds: 0.4, column: video, sound: {sample_rate: 1000, stream: eng}}
"""


def parsed(text):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Source, "source")
    return parser.instantiate(parser.parse_object(yaml.safe_load(text))).source


def test_a_manifest_is_written_in_yaml(folder):
    source = parsed(YAML.format(file=folder / "table.csv"))
    assert all(map(equal, all_rows(source), all_rows(manifest(folder))))
    assert source.limits == Limits(pixels=99)


def test_columns_of_videos_are_written_in_yaml():
    columns = parsed(VIDEO_YAML).columns
    assert columns["video"].frames == Frames(3, (5, 7))
    assert columns["audio"].sound == Sound(1_000, stream="eng") and columns["audio"].column == "video"
