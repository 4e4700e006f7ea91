"""Labelled texts: every text whole in one split, errors that name the line, and the questions of Banking77."""

import csv
import json
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import bounded, without_shape_checks
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PerceiverTokenizer

from perceiver.data.batch import collate
from perceiver.data.source import SPLITS
from perceiver.data.text.table import BANKING, BANKING_SHA256, Banking77, TextTable, keep_both_ends, keep_start, key
from perceiver.tokenizer import decode

PUBLISHED = Path(__file__).parent.parent.parent / "../shared/data/text/banking77"
needs_banking = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the shared folder of datasets is not here")
ALL_TRAIN = {"val_share": 0.0, "test_share": 0.0}


def jsonl(folder, *lines, name="table.jsonl"):
    """A table of JSON lines."""
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name


def contents(rows):
    """Text and target of each row."""
    fetched = [rows.row(i, np.random.default_rng(i)) for i in range(len(rows))]
    return [(decode(row["text"].tolist()), row.get("target")) for row in fetched]


@pytest.fixture
def table(tmp_path):
    """1009 texts of 7 classes, one each line."""
    return jsonl(tmp_path, *({"text": f"question {number} \u00e9", "label": f"class {number % 7}"} for number in range(1009)))


def test_every_text_is_in_one_split_with_its_class_and_the_shares_hold(table):
    source = TextTable(table, val_share=0.2, test_share=0.3)
    splits = {split: contents(source.rows(split)) for split in SPLITS}
    found = [pair for pairs in splits.values() for pair in pairs]
    assert sorted(found) == sorted((f"question {number} \u00e9".encode(), number % 7) for number in range(1009))
    for split, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        assert abs(len(splits[split]) - 1009 * share) < 5 * (1009 * share * (1 - share)) ** 0.5
    assert source.classes == tuple(f"class {number}" for number in range(7))
    assert source.task == {"task": "classification", "num_classes": 7}


def test_a_text_stays_in_its_split_when_others_come_and_go(tmp_path, table):
    fewer = jsonl(tmp_path, *({"text": f"question {number} \u00e9", "label": "x"} for number in range(0, 1009, 3)), name="fewer.jsonl")
    for split in SPLITS:
        whole, some = ({text for text, _ in contents(TextTable(file).rows(split))} for file in (table, fewer))
        assert some <= whole and some


def test_copies_of_a_text_are_allowed_and_share_a_split_whatever_their_case_and_whitespace(tmp_path):
    copies = ("Where is card {}?", "where  is card {}? ", "WHERE IS\tCARD {}?")
    file = jsonl(tmp_path, *({"text": copy.format(number), "label": "a"} for number in range(101) for copy in copies))
    counts = [Counter(re.search(rb"\d+", text)[0] for text, _ in contents(TextTable(file).rows(split))) for split in SPLITS]
    assert [set(count.values()) for count in counts] == [{3}] * 3 and sum(map(len, counts)) == 101
    assert key(b"A  b\n") == key(b"a B") != key(b"ab")


def test_files_for_splits_are_taken_as_they_are_and_the_others_are_shares_of_the_training_file(tmp_path, table):
    test = jsonl(tmp_path, {"text": "question 5 \u00e9", "label": "class 5"}, {"text": "new", "label": "rare"}, name="test.jsonl")
    source = TextTable({"train": table, "test": test}, val_share=0.25)
    assert contents(source.rows("test")) == [("question 5 \u00e9".encode(), 5), (b"new", 7)]
    assert len(source.rows("train")) + len(source.rows("val")) == 1009
    assert source.classes[-1] == "rare"
    only = TextTable({"test": test})
    assert len(only.rows("test")) == 2
    with pytest.raises(ValueError, match="no table for the val split, and none for train"):
        only.rows("val")


def test_columns_and_entry_are_named_by_the_user(tmp_path):
    (tmp_path / "table.csv").write_text('id,frage,sinn\n1,"Karte, ""weg""\nhilf",verlust\n2,Geld?,frage\n')
    source = TextTable(tmp_path / "table.csv", entry="note", text="frage", label="sinn", **ALL_TRAIN)
    rows = source.rows("train")
    assert [(decode(rows.row(i, np.random.default_rng(0))["note"].tolist()), rows.row(i, np.random.default_rng(0))["target"]) for i in range(2)] == [
        (b'Karte, "weg"\nhilf', 1),
        (b"Geld?", 0),
    ]
    assert source.entries == source.ragged == ("note",)
    assert [rows.name(0), rows.name(1)] == ["table.csv, line 2", "table.csv, line 4"]


def test_rows_pad_together_in_a_batch_and_pickle(table):
    source = TextTable(table)
    rows = pickle.loads(pickle.dumps(source.rows("train")))
    batch = collate([rows.row(i, np.random.default_rng(0)) for i in range(23)], source.entries, source.ragged)
    assert batch["text"].dtype == batch["target"].dtype == torch.int64 and len(batch["target"]) == 23
    assert batch["text_length"].tolist() == [len(text) for text, _ in contents(rows)[:23]]


def test_labels_may_be_whole_numbers_and_a_table_may_have_none(tmp_path):
    numbers = jsonl(tmp_path, {"text": "a", "label": 3}, {"text": "b", "label": 11}, {"text": "c", "label": 3})
    source = TextTable(numbers, **ALL_TRAIN)
    assert source.classes == ("11", "3") and [target for _, target in contents(source.rows("train"))] == [1, 0, 1]
    unlabelled = TextTable(numbers, label=None, **ALL_TRAIN)
    assert contents(unlabelled.rows("train")) == [(b"a", None), (b"b", None), (b"c", None)] and unlabelled.classes == ()
    with pytest.raises(ValueError, match="TextTable has no classes to learn"):
        unlabelled.task  # noqa: B018


def test_nul_bytes_and_whitespace_are_text(tmp_path):
    file = jsonl(tmp_path, {"text": "a\x00b", "label": "x"}, {"text": " ", "label": "y"})
    assert contents(TextTable(file, **ALL_TRAIN).rows("train")) == [(b"a\x00b", 0), (b" ", 1)]


def test_texts_that_are_too_long_are_refused_with_their_number_and_the_first_line(tmp_path):
    file = jsonl(tmp_path, *({"text": text, "label": "x"} for text in ("\u00e9" * 5, "\u00e9" * 6, "z" * 17)))
    assert len(TextTable(file, max_bytes=17, **ALL_TRAIN).rows("train")) == 3
    with pytest.raises(ValueError, match="2 of 3 texts of .* are longer than max_bytes=11, the first one in line 2, the longest with 17 bytes"):
        TextTable(file, max_bytes=11, **ALL_TRAIN).rows("train")


def test_texts_that_are_too_long_are_cut_where_the_user_says(tmp_path):
    file = jsonl(tmp_path, {"text": "abcdefg", "label": "x"}, {"text": "abcde", "label": "x"})
    assert contents(TextTable(file, max_bytes=5, cut=keep_start, **ALL_TRAIN).rows("train")) == [(b"abcde", 0), (b"abcde", 0)]
    assert contents(TextTable(file, max_bytes=5, cut=keep_both_ends, **ALL_TRAIN).rows("train")) == [(b"abcfg", 0), (b"abcde", 0)]


@bounded
@given(text=st.binary(min_size=1, max_size=41), max_bytes=st.integers(1, 43))
@example(text=b"abc", max_bytes=1)
def test_a_cut_text_has_the_length_asked_for(text, max_bytes):
    wanted = min(len(text), max_bytes)
    assert text.startswith(keep_start(text, max_bytes)) and len(keep_start(text, max_bytes)) == wanted
    if len(text) > max_bytes:
        ends = keep_both_ends(text, max_bytes)
        half = max_bytes // 2
        assert len(ends) == max_bytes and text.startswith(ends[: max_bytes - half]) and text.endswith(ends[max_bytes - half :])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"text": "a", "label": "x"}, {"text": "", "label": "x"}], "line 2 has no text in its column 'text'"),
        ([{"text": None, "label": "x"}], "line 1 has no text in its column 'text'"),
        ([{"text": 5, "label": "x"}], "line 1 has 5 in its column 'text'"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": ""}], "line 2 has '' in its column 'label'"),
        ([{"text": "a", "label": None}], "line 1 has None in its column 'label'"),
        ([{"text": "a", "label": True}], "line 1 has True in its column 'label'"),
        ([{"text": "a", "label": 0.5}], "line 1 has 0.5 in its column 'label'"),
        ([{"text": "a"}], "line 1 has no column 'label'"),
        ([{"text": "a \ud800 b", "label": "x"}], "line 1 is broken JSON: .*surrogates not allowed"),
        ([], "is empty"),
    ],
)
def test_broken_lines_are_refused_with_their_number(tmp_path, lines, said):
    with pytest.raises(ValueError, match=rf"table.jsonl.* ?{said}"):
        TextTable(jsonl(tmp_path, *lines), **ALL_TRAIN).rows("train")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"text,label\na,x\n\xff\xfe,x\n", "line 3 is not UTF-8"),
        (b"text,label\na,x\n,x\n", "line 3 has no text"),
        (b"text,label\na,x\n" + b"y" * 10_000_001 + b",x\n", "line 3 is longer than 10,000,000 bytes"),
        (b"words,label\na,x\n", "has no column 'text'"),
        (b"text,label\na\x00b,x\n", "line 2 has a NUL byte"),
        (b"text,label\n", "is empty"),
        (b"", "is empty"),
    ],
    ids=["not UTF-8", "no text", "10 MB", "missing column", "NUL", "no lines", "nothing"],
)
def test_broken_files_are_refused_with_the_line(tmp_path, data, said):
    (tmp_path / "table.csv").write_bytes(data)
    with pytest.raises(ValueError, match=rf"{tmp_path}/table.csv.* {said}"):
        TextTable(tmp_path / "table.csv").rows("train")


def test_a_missing_file_is_refused_with_its_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/table.csv"):
        TextTable(tmp_path / "table.csv").rows("train")


def test_a_split_without_a_text_is_refused(tmp_path):
    file = jsonl(tmp_path, {"text": "a", "label": "x"})
    with pytest.raises(ValueError, match="the val split of .*table.jsonl has no text"):
        TextTable(file, **ALL_TRAIN).rows("val")


@pytest.mark.parametrize(("file", "options"), [({}, {}), ({"dev": "a.csv"}, {}), ("a.csv", {"max_bytes": 0}), ("a.csv", {"val_share": 1.0})], ids=str)
def test_impossible_settings_are_refused(file, options):
    with without_shape_checks(), pytest.raises(ValueError, match="file=|max_bytes=0|val_share=1.0"):
        TextTable(file, **options)


@pytest.fixture(scope="module")
def banking():
    source = Banking77(PUBLISHED)
    source.prepare()
    return source


@needs_banking
def test_banking77_has_its_official_questions_and_the_splits_have_every_intent(banking):
    rows = {split: banking.rows(split) for split in SPLITS}
    assert len(rows["train"]) + len(rows["val"]) == 10_003 and len(rows["test"]) == 3_080
    counts = {split: Counter(rows[split].targets.tolist()) for split in SPLITS}
    assert all(len(count) == 77 for count in counts.values()) and set(counts["test"].values()) == {40}
    assert abs(len(rows["val"]) - 1_000) < 5 * 30  # standard deviation of a tenth of 10,003
    longest = max(len(text) for split in SPLITS for text, _ in contents(rows[split]))
    assert longest == 433


@needs_banking
def test_no_question_of_banking77_is_in_two_of_its_training_splits(banking):
    train, val = ({key(text) for text, _ in contents(banking.rows(split))} for split in ("train", "val"))
    assert not train & val


@needs_banking
def test_rows_of_banking77_are_ids_of_the_published_tokenizer_and_decode_to_the_lines_of_the_file(banking):
    published = PerceiverTokenizer()
    rows = banking.rows("test")
    with open(PUBLISHED / "test.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for i in range(0, len(rows), 41):
        row = rows.row(i, np.random.default_rng(i))
        assert row["text"].tolist() == published(lines[i]["text"], add_special_tokens=False)["input_ids"]
        assert decode(row["text"].tolist()).decode() == lines[i]["text"]
        assert banking.classes[row["target"]] == lines[i]["category"]


@needs_banking
def test_classes_of_banking77_are_those_of_the_official_list(banking):
    official = json.loads((PUBLISHED / "categories.json").read_text())
    assert list(banking.classes) == official and len(official) == banking.task["num_classes"]


def test_banking77_knows_its_task_before_it_is_there_and_says_where_it_looked(tmp_path):
    source = Banking77(tmp_path)
    assert source.task == {"task": "classification", "num_classes": 77}
    for ask in (lambda: source.classes, lambda: source.rows("train")):
        with pytest.raises(FileNotFoundError, match=rf"banking77: train.csv, test.csv, categories.json not found; looked in {tmp_path}"):
            ask()


def test_banking77_is_fetched_from_its_official_places_and_verified(tmp_path, monkeypatch):
    asked = []

    def answer(url, file, sha256=None):
        asked.append((url, Path(file), sha256))

    monkeypatch.setattr("perceiver.data.download.retrieve", answer)
    Banking77(tmp_path).prepare()
    assert asked == [(BANKING + name, tmp_path / name, sha256) for name, sha256 in BANKING_SHA256.items()]
    (tmp_path / "test.csv").write_text("text,category\n")
    with pytest.raises(ValueError, match="test.csv is not the official file"):
        Banking77(tmp_path).prepare()


def test_a_label_that_is_no_class_is_refused_with_its_line(tmp_path):
    (tmp_path / "categories.json").write_text('["known"]')
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,category\na,known\nb,unknown\n")
    with pytest.raises(ValueError, match="test.csv, line 3: 'unknown' is none of the 1 classes"):
        Banking77(tmp_path).rows("test")
