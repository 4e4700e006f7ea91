"""Text files: windows that lose nothing and mix no splits, of any bytes; and Shakespeare, byte for byte."""

import os
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import bounded
from hypothesis import given
from hypothesis import strategies as st
from transformers import PerceiverTokenizer

from perceiver.data.batch import collate
from perceiver.data.rows import BadSample
from perceiver.data.source import SPLITS
from perceiver.data.text.files import SHAKESPEARE, SHAKESPEARE_SHA256, TextFiles, TinyShakespeare, anywhere, one_after_another
from perceiver.data.text.masking import Spans, WholeWords
from perceiver.tokenizer import PAD, decode

ROOT = Path(__file__).parent.parent.parent
PUBLISHED = ROOT / "../shared/data/text/tinyshakespeare"
needs_shakespeare = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the shared folder of datasets is not here")
SIZES = {"a.txt": 1009, "b/c.txt": 211, "b/d.txt": 3, "e.txt": 37}


@pytest.fixture
def folder(tmp_path):
    """Files of all kinds of bytes, none of them like the others."""
    (tmp_path / "b").mkdir()
    for number, (name, size) in enumerate(SIZES.items()):
        (tmp_path / name).write_bytes(np.random.default_rng(number).bytes(size))
    (tmp_path / "notes.md").write_text("of another kind")
    return tmp_path


def read(rows, seed=0, entry="text"):
    """The bytes of every window."""
    return [decode(rows.row(i, np.random.default_rng((seed, i)))[entry].tolist()) for i in range(len(rows))]


@pytest.mark.parametrize("length", [1, 7, 13, 101, 5003])
def test_validation_and_test_hold_each_byte_of_their_part_once(folder, length):
    source = TextFiles(folder, length=length, val_share=0.2, test_share=0.3)
    whole = [(folder / name).read_bytes() for name in SIZES]
    parts = {"val": (0.5, 0.7), "test": (0.7, 1.0)}
    for split, (start, stop) in parts.items():
        windows = read(source.rows(split))
        assert b"".join(windows) == b"".join(data[round(len(data) * start) : round(len(data) * stop)] for data in whole)
        assert {len(window) for window in windows} <= set(range(1, length + 1))


def test_every_byte_belongs_to_one_split(folder):
    source = TextFiles(folder, "a.txt", length=23, val_share=0.11, test_share=0.07)
    stretches = [source.rows(split).stretches[0] for split in SPLITS]
    assert stretches[0].start == 0 and stretches[2].stop == SIZES["a.txt"]
    assert stretches[0].stop == stretches[1].start and stretches[1].stop == stretches[2].start
    assert [s.stop - s.start for s in stretches] == [827, 111, 71]  # 82 %, 11 % and 7 % of 1009


def test_no_window_of_training_reaches_into_another_split_or_file(tmp_path):
    # Bytes say where they are from: three files, and within each file which split.
    for number in range(3):
        (tmp_path / f"{number}.txt").write_bytes(bytes([10 * number]) * 800 + bytes([10 * number + 1]) * 100 + bytes([10 * number + 2]) * 100)
    source = TextFiles(tmp_path, length=67, val_share=0.1, test_share=0.1)
    for seed in range(29):
        for place, split in enumerate(SPLITS):
            windows = read(source.rows(split), seed)
            assert all(len(set(window)) == 1 and window[0] % 10 == place for window in windows)
            assert {window[0] // 10 for window in windows} == {0, 1, 2}


def test_training_windows_start_at_every_place_about_equally_often_over_the_passes(tmp_path):
    data = bytes(range(97))
    (tmp_path / "a.txt").write_bytes(data)
    rows = TextFiles(tmp_path, length=11, val_share=0.0, test_share=0.0).rows("train")
    starts = Counter()
    passes = 2000
    for seed in range(passes):
        windows = read(rows, seed)
        assert all(window in data and len(window) == 11 for window in windows)
        starts.update(window[0] for window in windows)
    assert sorted(starts) == list(range(97 - 11 + 1))
    expected = passes * len(rows) / 87
    assert max(abs(count - expected) for count in starts.values()) < 5 * expected**0.5


@bounded
@given(size=st.integers(1, 307), length=st.integers(1, 97))
def test_the_places_of_training_windows_divide_all_places_among_them(size, length):
    count = -(-size // length)
    places = [anywhere(size, length, window) for window in range(count)]
    assert places[0][0] == 0 and places[-1][1] == max(1, size - length + 1)
    assert all(first < behind for first, behind in places)
    assert all(one[1] == other[0] for one, other in zip(places, places[1:], strict=False))
    assert {behind - first for first, behind in (one_after_another(size, length, window) for window in range(count))} == {1}


def test_a_row_is_a_function_of_its_number_and_the_generator(folder):
    rows = TextFiles(folder, length=53, mask=Spans()).rows("train")
    rows.row(3, np.random.default_rng(1))
    copy = pickle.loads(pickle.dumps(rows))
    for i in (0, 5, len(rows) - 1):
        one, two = rows.row(i, np.random.default_rng(i)), copy.row(i, np.random.default_rng(i))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert rows.name(5) == copy.name(5)


def test_windows_are_named_after_file_and_byte(folder):
    rows = TextFiles(folder, length=100, val_share=0.0, test_share=0.5).rows("test")
    assert [rows.name(i) for i in range(len(rows))] == [
        "a.txt from byte 504",
        "a.txt from byte 604",
        "a.txt from byte 704",
        "a.txt from byte 804",
        "a.txt from byte 904",
        "a.txt from byte 1004",
        "b/c.txt from byte 106",
        "b/c.txt from byte 206",
        "b/d.txt from byte 2",
        "e.txt from byte 18",
    ]


def test_masked_rows_go_with_the_task_and_pad_together_in_a_batch(folder):
    source = TextFiles(folder, "a.txt", entry="note", length=67, mask=Spans(0.3, mean_bytes=4.0), val_share=0.2)
    rows = source.rows("val")
    batch = collate([rows.row(i, np.random.default_rng(i)) for i in range(len(rows))], (*source.entries, "note_target"), source.ragged)
    assert source.task == {"task": "masked_bytes", "modality": "note"}
    assert batch["note"].shape == batch["note_target"].shape == (4, 67) and batch["note"].dtype == torch.int64
    assert batch["note_length"].tolist() == batch["note_target_length"].tolist() == [67, 67, 67, 1]
    assert (batch["note_target"][3, 1:] == PAD).all()
    plain = TextFiles(folder, "a.txt", entry="note", length=67, val_share=0.2).rows("val")
    for i in range(len(rows)):
        original = plain.row(i, np.random.default_rng(0))["note"]
        hidden = batch["note_target"][i, : len(original)] != PAD
        assert hidden.any() and torch.equal(batch["note_target"][i, : len(original)][hidden], original[hidden])
        assert torch.equal(batch["note"][i, : len(original)][~hidden], original[~hidden])


def test_without_a_mask_there_is_nothing_to_learn(folder):
    source = TextFiles(folder)
    assert source.ragged == ("text",) and list(source.rows("train").row(0, np.random.default_rng(0))) == ["text"]
    with pytest.raises(ValueError, match="TextFiles has nothing to learn: give it a mask"):
        source.task  # noqa: B018


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe\xc3(\xa0\xa1" * 31, b"\x00" * 101, "\ud800\udfff".encode("utf-8", "surrogatepass") * 17, b"x" * 10_000_000],
    ids=["invalid UTF-8", "NUL", "lone surrogates", "a line of 10 MB"],
)
def test_any_bytes_are_text(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    rows = TextFiles(tmp_path, length=4_000_037, mask=Spans(), val_share=0.0, test_share=0.5).rows("test")
    for i in range(len(rows)):
        row = rows.row(i, np.random.default_rng(i))
        restored = torch.where(row["text_target"] != PAD, row["text_target"], row["text"])
        start = rows.stretches[0].start + i * rows.length
        assert decode(restored.tolist()) == data[start : start + rows.length]


def test_a_file_that_shrinks_or_goes_is_a_bad_sample(folder):
    rows = TextFiles(folder, "*.txt", length=100, test_share=0.5).rows("test")
    (folder / "a.txt").write_bytes(b"x" * 611)
    (folder / "e.txt").unlink()
    assert len(rows.row(0, np.random.default_rng(0))["text"]) == 100
    with pytest.raises(BadSample, match="a.txt from byte 604: only 7 of 100 bytes are there"):
        rows.row(1, np.random.default_rng(0))
    with pytest.raises(BadSample, match="e.txt from byte 18: cannot be read: No such file"):
        rows.row(len(rows) - 1, np.random.default_rng(0))


def test_a_missing_folder_and_a_pattern_without_files_are_refused_with_the_place(folder):
    with pytest.raises(FileNotFoundError, match=rf"text files \*\*/\*.txt not found; looked in {folder}/z"):
        TextFiles(folder / "z").rows("train")
    with pytest.raises(FileNotFoundError, match=rf"text files \*.doc not found; looked in {folder}"):
        TextFiles(folder, "*.doc").rows("train")


def test_an_empty_file_is_refused_by_name(folder):
    (folder / "b/none.txt").touch()
    with pytest.raises(ValueError, match="b/none.txt is empty"):
        TextFiles(folder).rows("train")


def test_a_split_without_a_byte_is_refused(folder):
    with pytest.raises(ValueError, match="the val split of .* has no byte"):
        TextFiles(folder, val_share=0.0).rows("val")
    with pytest.raises(ValueError, match="the test split of b/d.txt .* has no byte"):
        TextFiles(folder, "b/d.txt").rows("test")


@pytest.mark.parametrize("target", ["a.txt", "/etc/hostname", "nowhere"])
def test_symbolic_links_to_files_are_refused(folder, target):
    (folder / "link.txt").symlink_to(target)
    with pytest.raises(ValueError, match="link.txt is reached through a symbolic link"):
        TextFiles(folder).rows("train")


def test_symbolic_links_to_folders_are_refused(folder):
    (folder / "linked").symlink_to(folder / "b")
    with pytest.raises(ValueError, match="linked/c.txt is reached through a symbolic link"):
        TextFiles(folder, "*/*.txt").rows("train")


def test_a_folder_that_is_itself_reached_through_a_link_is_fine(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(folder)
    assert len(TextFiles(link).rows("train")) == len(TextFiles(folder).rows("train"))


@pytest.mark.parametrize("pattern", ["../*.txt", "a/../../b", "/etc/*", ""])
def test_patterns_that_lead_out_of_the_folder_are_refused(folder, pattern):
    with pytest.raises(ValueError, match=rf"files={re.escape(repr(pattern))}: give a pattern within the folder"):
        TextFiles(folder, pattern)


@pytest.mark.parametrize("options", [{"length": 0}, {"val_share": -0.1}, {"val_share": 0.5, "test_share": 0.5}, {"test_share": -1.0}], ids=str)
def test_impossible_numbers_are_refused(folder, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        TextFiles(folder, **options)


def test_a_row_opens_its_file_and_leaves_none_open(folder):
    rows = TextFiles(folder).rows("train")
    before = len(os.listdir("/dev/fd"))
    for i in range(len(rows)):
        rows.row(i, np.random.default_rng(0))
    assert len(os.listdir("/dev/fd")) == before


@needs_shakespeare
def test_shakespeare_is_whole_and_every_byte_is_in_one_split():
    source = TinyShakespeare(PUBLISHED, length=4099)
    source.prepare()
    data = (PUBLISHED / "input.txt").read_bytes()
    assert len(data) == 1_115_394 and data.isascii()
    train = source.rows("train").stretches[0]
    assert train.start == 0
    assert data[: train.stop] + b"".join(read(source.rows("val")) + read(source.rows("test"))) == data
    assert [len(source.rows(split)) for split in SPLITS] == [245, 14, 14]


def test_shakespeare_is_fetched_from_its_official_place_and_verified(tmp_path, monkeypatch):
    asked = []

    def answer(url, file, sha256=None):
        asked.append((url, Path(file), sha256))
        raise OSError("no way out")

    monkeypatch.setattr("perceiver.data.download.retrieve", answer)
    with pytest.raises(FileNotFoundError, match=rf"tinyshakespeare: input.txt not found; looked in {tmp_path}; could not fetch it .*no way out"):
        TinyShakespeare(tmp_path).prepare()
    assert asked == [(SHAKESPEARE, tmp_path / "input.txt", SHAKESPEARE_SHA256)] and SHAKESPEARE.startswith("https://")
    with pytest.raises(FileNotFoundError, match=rf"tinyshakespeare: input.txt not found; looked in {tmp_path}"):
        TinyShakespeare(tmp_path).rows("train")
    (tmp_path / "input.txt").write_text("To be, or what?")
    with pytest.raises(ValueError, match="input.txt is not the official file"):
        TinyShakespeare(tmp_path).prepare()


@needs_shakespeare
def test_shakespeare_is_found_where_datasets_are_looked_for(monkeypatch):
    monkeypatch.chdir(ROOT)
    source = TinyShakespeare(mask=WholeWords(), length=1000)
    assert len(source.rows("val")) == 56 and source.task["task"] == "masked_bytes"


@needs_shakespeare
def test_rows_of_shakespeare_are_ids_of_the_published_tokenizer():
    published = PerceiverTokenizer()
    rows = TinyShakespeare(PUBLISHED, length=509).rows("train")
    data = (PUBLISHED / "input.txt").read_bytes()
    for i in (0, 1, 577, len(rows) - 1):
        ids = rows.row(i, np.random.default_rng(i))["text"].tolist()
        text = decode(ids).decode()
        assert ids == published(text, add_special_tokens=False)["input_ids"] and text.encode() in data and len(ids) == 509
