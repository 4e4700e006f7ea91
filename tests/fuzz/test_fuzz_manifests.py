"""Fuzzing of manifests: the rows that a table lists, with what its cells hold, or an error that names the table and its line."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import strategies as st
from PIL import Image

from perceiver.data.audio.manifest import AudioManifest
from perceiver.data.columns import ImageColumn, TextColumn
from perceiver.data.limits import Limits
from perceiver.data.manifest import Manifest
from perceiver.data.rows import BadSample
from perceiver.data.source import SPLITS
from perceiver.data.text.table import keep_start
from perceiver.tokenizer import encode
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.mutations import altered, mutated, odd_values, put

COLUMNS = ("id", "split", "picture", "text", "label")
LINES = (
    ("1", "train", "a.png", 'a cat, "black"', "cat"),
    ("2", "train", "", "schwarz & schön", "7"),
    ("3", "train", "below/b.png", "", "cat"),
    ("4", "val", "a.png", "two\nlines", ""),
    ("5", "test", "below/b.png", "last", "7"),
)
TOKENS = (
    b"\0",
    b"\xef\xbb\xbf",
    b'"',
    b'""',
    b"'",
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b";",
    b"\\",
    b"\xff",
    b"\xc3",
    "ü\u2028".encode(),
    b"../",
    b"/",
    b"x" * 300,
)
TOKENS_OF_JSON = (*TOKENS, b"{", b"}", b"null", b"NaN", b"1e999", b"-0", b"9" * 5_000, b"[" * 2_000, b"\\u0000", b"\\ud800", b'"id": 1, ', b"true")
LONGEST = 64  # bytes of a text
RATE = 1_000  # Hz


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    """A folder with two pictures, two sounds, and a file that is neither."""
    (place / "below").mkdir()
    for name in ("a.png", "below/b.png"):
        Image.fromarray(np.full((3, 5), 7, dtype=np.uint8)).save(place / name)
    for name in ("a.wav", "below/b.wav"):
        soundfile.write(place / name, np.linspace(0, 0.5, RATE // 20), RATE)
    (place / "list").write_text("no picture")
    return place


def as_csv(lines: Sequence[Sequence[str]] = LINES, columns: Sequence[str] = COLUMNS, **options: Any) -> bytes:
    """A table as CSV."""
    written = io.StringIO(newline="")
    csv.writer(written, **options).writerows([columns, *lines])
    return written.getvalue().encode()


def as_json(lines: Sequence[dict[str, Any]]) -> bytes:
    """A table as JSON Lines."""
    return "\n".join(json.dumps(line) for line in lines).encode()


OBJECTS = [{column: cell or None for column, cell in zip(COLUMNS, line, strict=True)} for line in LINES]


def listed(file: Path, content: bytes) -> dict[str, list[dict[str, Any]]] | None:
    """All rows of a table by split, with None in the place of those that cannot be decoded; None when the table is refused."""
    source = Manifest(
        put(file, content), columns={"picture": ImageColumn((3, 5)), "text": TextColumn(LONGEST, cut=keep_start)}, limits=Limits(bytes=10_000)
    )
    found: dict[str, list[Any]] = {}
    try:
        for split in SPLITS:
            rows = source.rows(split)
            found[split] = [row_of(rows, number) for number in range(len(rows))]
    except (ValueError, FileNotFoundError) as error:
        # The sample's name holds that of the table, and its line.
        check_told(error, "of the files that the table names" if isinstance(error, FileNotFoundError) else file.name)
        return None
    return found


def row_of(rows: Any, number: int) -> dict[str, Any] | None:
    """A row, whose modalities have the form that the columns promise; None when it cannot be decoded."""
    try:
        row = rows.row(number, np.random.default_rng(0))
    except BadSample as error:
        check_told(error, rows.name(number))
        return None
    assert row.keys() <= {"picture", "text", "target"} and row.keys() & {"picture", "text"}
    assert row.get("target", 0) in range(len(LINES))
    assert "picture" not in row or (row["picture"].shape == (3, 3, 5) and row["picture"].dtype == torch.uint8)
    return row


def check(found: dict[str, list[Any]], expected: list[dict[str, Any]]) -> None:
    """Compares the rows that were read with what stands in the table, as another reader sees it."""
    classes = sorted({str(line["label"]) for line in expected if line["split"] == "train" and line.get("label") not in (None, "")})
    for split, rows in found.items():
        lines = [line for line in expected if line["split"] == split]
        assert len(rows) == len(lines)
        for row, line in zip(rows, lines, strict=True):
            if row is None:
                continue
            assert ("picture" in row) == bool(line.get("picture"))
            text = str(line["text"]).encode() if line.get("text") not in (None, "") else b""
            ids = row["text"].tolist() if "text" in row else []
            assert ids == encode(text)[:LONGEST] or (len(text) > LONGEST and ids == encode(text)[: len(ids)] and len(ids) > LONGEST - 4)
            assert row.get("target") == (None if line.get("label") in (None, "") else classes.index(str(line["label"])))


def check_csv(folder: Path, content: bytes) -> None:
    """Reads a CSV, and compares it with what the csv module sees in it."""
    if (found := listed(folder / "list.csv", content)) is None:
        return
    columns, *lines = (line for line in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="\n"), strict=True) if line)
    if "split" in columns:
        check(found, [dict(zip(columns, line, strict=True)) for line in lines])
    else:
        assert sum(map(len, found.values())) == len(lines)


def check_json(folder: Path, content: bytes) -> None:
    """Reads JSON Lines, and compares them with what the json module sees in them."""
    if (found := listed(folder / "list.jsonl", content)) is None:
        return
    lines = [json.loads(line) for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    if any("split" in line for line in lines):
        check(found, lines)
    else:
        assert sum(map(len, found.values())) == len(lines)


@fuzz(1_000, content=mutated(as_csv(), tokens=TOKENS))
def test_a_csv_that_was_changed_gives_the_rows_that_stand_there_or_is_refused_by_its_name(content, folder):
    check_csv(folder, content)


@fuzz(700, content=mutated(as_json(OBJECTS), tokens=TOKENS_OF_JSON))
def test_json_lines_that_were_changed_give_the_rows_that_stand_there_or_are_refused_by_their_name(content, folder):
    check_json(folder, content)


cells = st.one_of(
    st.sampled_from(
        ["", " ", '"', '""', "a,b", "x\r\ny", "\n", "a.png", "below/../a.png", "below", "list", ".", "a.png/", "p" * 300, "q/" * 2_100, "ÿ"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


@fuzz(
    700,
    lines=st.lists(st.lists(cells, min_size=5, max_size=5), min_size=3, max_size=3),
    columns=st.one_of(st.just(COLUMNS), st.permutations(COLUMNS), st.lists(st.one_of(st.sampled_from(COLUMNS), cells), min_size=5, max_size=5)),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"]),
)
def test_odd_cells_columns_quotes_and_ends_of_a_csv_are_read_as_they_stand_or_refused(lines, columns, quoting, ends, mark, folder):
    """Each line is of a split of its own, where one is said, so that none is empty."""
    if "split" in columns:
        for line, split in zip(lines, SPLITS, strict=True):
            line[list(columns).index("split")] = split
    check_csv(folder, mark + as_csv(lines, columns, quoting=quoting, lineterminator=ends))


SOUNDS = [
    {"id": 1, "path": "a.wav", "label": "x", "split": "train", "start": 0.01, "stop": 0.02},
    {"id": "2", "path": "below/b.wav", "label": 7, "split": "train"},
    {"id": "c", "path": "a.wav", "label": "x", "split": "val", "start": "0.03"},
    {"id": "d", "path": "below/b.wav", "label": "7", "split": "test", "stop": 0.02},
]


@fuzz(400, lines=altered(SOUNDS, odd_values))
def test_odd_values_in_a_list_of_sounds_are_read_as_they_stand_or_refused(lines, folder):
    file = put(folder / "sounds.jsonl", as_json(lines if isinstance(lines, list) else [lines]))
    source = AudioManifest(file, sample_rate=RATE, max_seconds=1.0)
    try:
        for split in SPLITS:
            rows = source.rows(split)
            assert all(rows.row(number, np.random.default_rng(0))["audio"].shape[0] == 1 for number in range(len(rows)))
    except BadSample as error:
        check_told(error, rows.name(len(rows) - 1) if len(rows) == 1 else "")
    except (ValueError, FileNotFoundError) as error:
        check_told(error, "of the files that the table names" if isinstance(error, FileNotFoundError) else file.name)


@fuzz(700, lines=altered(OBJECTS, odd_values))
def test_odd_values_in_json_lines_are_read_as_they_stand_or_refused(lines, folder):
    check_json(folder, as_json(lines if isinstance(lines, list) else [lines]))
