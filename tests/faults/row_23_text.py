"""Texts that are no text: bytes that are no UTF-8, NUL, halves of characters, a line of 10 MB, nothing at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perceiver.adapters import TextBytes
from perceiver.data import Manifest, TextFiles, TextTable
from perceiver.data.columns import TextColumn
from perceiver.data.text.table import keep_both_ends, keep_start
from perceiver.tokenizer import decode, encode
from tests.faults.scoreboard import Fell

ALL = {"val_share": 0.0, "test_share": 0.0}  # all lines of a table are for training
FAULT = "bytes that are no UTF-8, NUL, lone surrogates, a line of 10 MB, an empty text"
EXPECTED = "as bytes all are read, capped, and come back; in tables the line is named"
NOT_APPLICABLE = dict.fromkeys(("lightning", "transformers", "accelerate"), "it reads no bytes in training")

LENGTH = 2_048
LONG = 10_000_000
BYTES = {
    "no UTF-8": b"caf\xe9 \xff\xfe \x80 \xc3",
    "NUL": b"a\0b\0\0c",
    "an overlong form": b"\xc0\xaf \xe0\x80\xaf",
    "all bytes": bytes(range(256)) * 3,
    "one line of 10 MB": b"a long line. " * (LONG // 13 + 1),
    "one byte": b"\0",
}


def ours(folder: Path) -> str:
    """The tokenizer, files, tables, and the adapter of a model."""
    for what, data in BYTES.items():
        expect(decode(encode(data)) == data, f"{what}: the bytes do not come back")
    for text in ("\ud800", "a\udfff\udc80b", "", "\0", "é\U0010ffff"):
        expect(decode(encode(text)).decode("utf-8", "surrogatepass") == text, f"{text!r} does not come back")
    expect(encode("") == [] and decode([]) == b"", "an empty text does not come back")
    check_files(folder)
    said = check_tables(folder)
    check_adapter()
    return f"{len(BYTES)} files come back byte by byte, {len(said)} tables are refused, such as: {said[0]}"


def expect(right: bool, wrong: str) -> None:
    """Falls when something is not right."""
    if not right:
        raise Fell(wrong)


def check_files(folder: Path) -> None:
    """Reads files of any bytes in windows, which together are the file; an empty one is named."""
    for number, (what, data) in enumerate(BYTES.items()):
        place = folder / f"files {number}"
        place.mkdir()
        (place / "1.txt").write_bytes(data)
        rows = TextFiles(place, length=LENGTH, val_share=0.0, test_share=1.0 - 1e-9).rows("test")
        windows = [rows.row(index, np.random.default_rng(0))["text"] for index in range(len(rows))]
        expect(max(len(ids) for ids in windows) <= LENGTH, f"{what}: a window is longer than {LENGTH}")
        expect(b"".join(decode(ids.tolist()) for ids in windows) == data, f"{what}: the windows are not the file")
    (folder / "files 0" / "2.txt").write_bytes(b"")
    expect("2.txt is empty" in refused(lambda: TextFiles(folder / "files 0", length=LENGTH).rows("train")), "an empty file is not named")


def check_tables(folder: Path) -> list[str]:
    """Reads tables with one line that is wrong, the third, which must be named; and one with a long text, which is cut."""
    said = []
    head, line = b"text,label\n", b"a text,yes\n"
    for what, wrong in {
        "no UTF-8": b"caf\xe9,yes\n",
        "NUL": b"a\0b,yes\n",
        "10 MB": b"a" * (LONG + 1) + b",yes\n",
        "an empty text": b",yes\n",
        "a quote that does not end": b'"a,yes\n',
    }.items():
        file = folder / "table.csv"
        file.write_bytes(head + line + wrong)
        said.append(named(what, lambda file=file: TextTable(file, max_bytes=LONG, **ALL).rows("train")))
        if what != "an empty text":  # which says there that a sample lacks the modality
            said.append(named(what, lambda file=file: Manifest(file, columns={"text": TextColumn(LONG)}, **ALL).rows("train")))
    for what, wrong in {
        "half of a character": b'{"text": "\\ud800", "label": "yes"}',
        "NaN": b'{"text": NaN, "label": "yes"}',
        "no UTF-8": b'{"text": "caf\xe9", "label": "yes"}',
        "deep": b"[" * 100_000,
        "10 MB": b'{"text": "' + b"a" * LONG + b'", "label": "yes"}',
    }.items():
        file = folder / "table.jsonl"
        file.write_bytes(b'{"text": "a text", "label": "yes"}\n\n' + wrong + b"\n")
        said.append(named(what, lambda file=file: TextTable(file, max_bytes=LONG, **ALL).rows("train")))
    long = folder / "long.csv"
    long.write_bytes(head + b"x" * 9_000_000 + b",yes\n" + line)
    said.append(refused(lambda: TextTable(long, max_bytes=LENGTH, **ALL).rows("train")))
    for cut in (keep_start, keep_both_ends):
        ids = TextTable(long, max_bytes=LENGTH, cut=cut, **ALL).rows("train").row(0, np.random.default_rng(0))["text"]
        expect(len(ids) == LENGTH, f"a text of 9 MB is not cut to {LENGTH} bytes")
    json.dumps(said)  # what is said can be written anywhere
    return said


def named(what: str, read: Callable[[], Any]) -> str:
    """What is said when a table is refused, which must name its third line."""
    told = refused(read)
    expect(", line 3 " in told and len(told) < 500, f"{what}: it says {told[:200] or 'nothing'}")
    return told


def refused(read: Callable[[], Any]) -> str:
    """What is said when something is refused; nothing when it is taken for good."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return ""


def check_adapter() -> None:
    """A model reads a batch with an empty text, and refuses one that is longer than its places."""
    adapter = TextBytes(17, 7)
    tokens = adapter(torch.tensor([encode(b"\xff\0a"), encode(b"abc")]), torch.tensor([[False] * 3, [True] * 3])).dense()
    expect(bool(tokens.features.isfinite().all()) and tokens.mask is not None and not bool(tokens.mask[0].any()), "an empty text is not empty")
    expect(adapter(torch.zeros(2, 0, dtype=torch.long)).dense().features.shape == (2, 0, 14), "texts without a byte have tokens")
    expect("longer than the table of 17" in refused(lambda: adapter(torch.zeros(1, LENGTH, dtype=torch.long))), "a long text is not refused")
