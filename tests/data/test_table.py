"""Tables: what their lines hold, and what is said of lines and paths that cannot be."""

import csv
import hashlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceiver.data import table
from perceiver.data.splits import check_shares, split_of
from perceiver.data.table import Line, check_there, inside, number_classes, read_table
from tests.builders import bounded


def read(tmp_path, content, name="list.csv", required=("a",)):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    return read_table(tmp_path / name, required=required)


def test_a_csv_has_strings_and_none_for_empty_cells(tmp_path):
    assert read(tmp_path, 'a,b\n1,\n"x,y ""z""", 2\n') == [Line(2, {"a": "1", "b": None}), Line(3, {"a": 'x,y "z"', "b": " 2"})]


def test_line_numbers_are_those_of_an_editor_where_lines_are_blank_or_cells_are_long(tmp_path):
    assert read(tmp_path, 'a\n\n"one\ntwo"\n\nthree\n') == [Line(3, {"a": "one\ntwo"}), Line(6, {"a": "three"})]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_the_ends_of_lines_of_windows_mean_nothing(tmp_path, end):
    assert read(tmp_path, f"\ufeffa,b{end}1,ü{end}") == [Line(2, {"a": "1", "b": "ü"})]
    assert read(tmp_path, f'\ufeff{{"a": "ü"}}{end}', "list.jsonl") == [Line(1, {"a": "ü"})]


def test_json_lines_keep_what_they_hold(tmp_path):
    content = '{"a": 3, "b": [1, null]}\n\n{"a": null, "c": "\\u0000\\ud83d\\ude00"}'
    assert read(tmp_path, content, "list.jsonl") == [Line(1, {"a": 3, "b": [1, None]}), Line(3, {"a": None, "c": "\0😀"})]


@bounded
@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.text("ab,\"'\r\n ")), min_size=1))
def test_what_the_csv_module_writes_is_read_again(tmp_path_factory, rows):
    file = tmp_path_factory.getbasetemp() / "any.csv"
    with open(file, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *rows])
    assert [tuple(line.cells.values()) for line in read_table(file, required=("a", "b"))] == [(a or None, b or None) for a, b in rows]


def test_parquet_rows_count_from_one(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"a": list(range(2_003)), "b": [None, *["x"] * 2_002]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    lines = read_table(tmp_path / "list.parquet", required=("b",))
    assert lines[0] == Line(1, {"a": 0, "b": None}) and lines[-1] == Line(2_003, {"a": 2_002, "b": "x"}) and len(lines) == 2_003
    with pytest.raises(ValueError, match="no column 'c'; there are 'a', 'b'"):
        read_table(tmp_path / "list.parquet", required=("c",))
    whole = (tmp_path / "list.parquet").read_bytes()
    for broken in (whole[:-20], whole[:4] + bytes(900) + whole[904:], b""):
        (tmp_path / "list.parquet").write_bytes(broken)
        with pytest.raises(ValueError, match="is broken Parquet"):
            read_table(tmp_path / "list.parquet", required=())


def test_without_pyarrow_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install perceiver-lightning\[parquet\]"):
        read(tmp_path, b"PAR1", "list.parquet")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("a,b\n", "is empty"),
        ("b,c\n1,2\n", "no column 'a'; there are 'b', 'c'"),
        ("a,b,a\n1,2,3\n", "has the column 'a' twice"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, and there are 2 columns"),
        ("a\n1,2\n", "line 2 has 2 cells, and there are 1 columns"),
        ('a\n1\n"2\n3', "line 3 is broken CSV: unexpected end of data"),
        ('a\n"1"2\n', "line 2 is broken CSV"),
        (b"a\n1\n\xff\n", "line 3 is not UTF-8 at its byte 1"),
        (b"a\n1\0\n", "line 2 has a NUL byte"),
    ],
)
def test_what_is_wrong_with_a_csv_is_said_with_its_line(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason) as error:
        read(tmp_path, content)
    assert str(tmp_path / "list.csv") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("\n", "is empty"),
        ('{"a": 1}\n{"b": 2}', "line 2 has no column 'a'; there are 'b'"),
        ('{"a": 1, "a": 2}', "line 1 is broken JSON: 'a' comes twice in one object"),
        ('{"a": {"b": 1, "b": 2}}', "line 1 is broken JSON: 'b' comes twice"),
        ('{"a": 1}\n{"a": ', "line 2 is broken JSON"),
        ('{"a": NaN}', "line 1 is broken JSON: NaN is no number"),
        ('{"a": "\\ud800"}', "line 1 is broken JSON: .*surrogates"),
        ("[1]", "line 1 is no JSON object"),
        ("[" * 100_000, "line 1 is broken JSON"),
        ('{"a": ' + "9" * 5_000 + "}", "line 1 is broken JSON"),
        (b'{"a": "\xc3"}', "line 1 is not UTF-8 at its byte 8"),
        (b'{"a": "\0"}', "line 1 has a NUL byte"),
    ],
)
def test_what_is_wrong_with_json_lines_is_said_with_its_line(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, content, "list.jsonl")


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_line_that_is_too_long_is_refused_by_its_number(tmp_path, name, monkeypatch):
    monkeypatch.setattr(table, "LINE_BYTES", 31)
    short = {"list.csv": "a\n1\n", "list.jsonl": '{"a": 1}\n{"a": 2}\n'}[name]
    assert read(tmp_path, short, name)
    with pytest.raises(ValueError, match="line 3 is longer than 31 bytes"):
        read(tmp_path, short + "x" * 32, name)


def test_a_long_cell_is_read_and_the_limit_of_the_csv_module_is_as_it_was(tmp_path):
    before = csv.field_size_limit()
    assert read(tmp_path, "a\n" + "x" * 200_000)[0].cells["a"] == "x" * 200_000
    with pytest.raises(ValueError):
        read(tmp_path, "a\n1,2\n")
    assert csv.field_size_limit() == before


def test_tables_that_are_not_there_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv is not there"):
        read_table(tmp_path / "none.csv", required=())
    with pytest.raises(ValueError, match=r"'.xlsx': give a table in .csv, .jsonl, .parquet"):
        read(tmp_path, "a", "list.xlsx")


@pytest.mark.parametrize("cell", ["", ".", "..", "../a", "b/../../a", "/a", "b\0"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path, cell):
    with pytest.raises(ValueError, match="^the sample: .* is no path below"):
        inside(tmp_path, cell, "the sample")


@pytest.mark.parametrize("cell", ["p" * 300, "q/" * 5_000])
def test_a_text_where_a_path_should_be_is_refused_by_its_row_and_not_in_full(tmp_path, cell):
    with pytest.raises(ValueError, match=r"^the sample: '[pq/]{99}\.\.\. is no path below .* \(File name too long\)"):
        inside(tmp_path, cell, "the sample")


def test_links_below_a_folder_are_refused_and_the_folder_itself_may_be_one(tmp_path):
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert inside(tmp_path / "link", "below/./a", "x") == tmp_path / "link/below/a"
    for cell in ("link", "link/below", "link/none"):
        with pytest.raises(ValueError, match="x: .*link is a symbolic link"):
            inside(tmp_path, cell, "x")


def test_all_missing_files_are_counted_once(tmp_path):
    (tmp_path / "a").touch()
    check_there([tmp_path / "a"])
    with pytest.raises(FileNotFoundError, match=f"^2 of the files .*first one {tmp_path}/c"):
        check_there([tmp_path / name for name in ("a", "c", "b", "c")])


def test_shares_are_kept_and_depend_on_nothing_but_the_key():
    keys = [f"folder/{number}.wav" for number in range(5_003)]
    splits = [split_of(key, 0.2, 0.1) for key in keys]
    counts = {split: splits.count(split) / len(keys) for split in ("train", "val", "test")}
    assert abs(counts["val"] - 0.2) < 0.03 and abs(counts["test"] - 0.1) < 0.02  # five standard deviations
    assert [split_of(key, 0.2, 0.1) for key in reversed(keys)] == splits[::-1]
    more = [split_of(key, 0.5, 0.1) for key in keys]
    assert all(after == before or (before, after) == ("train", "val") for before, after in zip(splits, more, strict=True))


@bounded
@given(st.text(st.characters(codec="utf-8")), st.floats(0, 0.49), st.floats(0, 0.49))
def test_the_split_of_a_key_is_the_same_in_every_version(key, val_share, test_share):
    """Or figures would not compare: 56 bits of BLAKE2b as a share, the smallest ones for the test, the next for validation."""
    number = int(hashlib.blake2b(key.encode(), key=b"perceiver split", digest_size=7).hexdigest(), 16)
    expected = "test" if number < test_share * 2**56 else "val" if number < (test_share + val_share) * 2**56 else "train"
    assert split_of(key, val_share, test_share) == expected


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.2, -0.1), (0.5, 0.5), (float("nan"), 0.0)])
def test_shares_that_leave_nothing_to_train_on_are_refused(shares):
    with pytest.raises(ValueError, match="together below 1"):
        check_shares(*shares)


def test_classes_are_numbered_in_the_order_of_their_names():
    assert number_classes(["b", "a", "b", "Z"]) == {"Z": 0, "a": 1, "b": 2}
