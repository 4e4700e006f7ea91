"""Tables: the lines of a CSV, JSON Lines or Parquet file that says what a dataset holds, and the files that they name.

What is wrong with a table is said with its file and line, when it is read: nothing is skipped but blank lines, and nothing is cut.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

LINE_BYTES = 10_000_000  # the most that a line may have, and a cell of a CSV


class Line(NamedTuple):
    """A line of a table.

    Args:
        number: of the line in the file, from 1; of the row in a Parquet file. Where a CSV cell holds line breaks, of the first line.
        cells: by column. Empty cells of a CSV are None, others are strings; those of JSON Lines and Parquet are what the file holds.
    """

    number: int
    cells: dict[str, Any]


def read_table(file: Path, *, required: Sequence[str]) -> list[Line]:
    """The lines of a table, all in memory.

    CSV has a first line of column names, commas, and double quotes where a cell needs them; JSON Lines one object a line. Both are UTF-8,
    with or without a byte order mark. Blank lines count for the numbers and for nothing else.

    Args:
        file: `.csv`, `.jsonl` or `.parquet`.
        required: columns that it must have. In JSON Lines each line must have them, though they may hold null.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: naming the line, when the file is broken, not UTF-8, or has a NUL byte; when there is no line, or a column is missing.
        ImportError: saying how to install what reads Parquet, when it is not installed.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there, or not a file (this is {Path.cwd()}): give the table's own path")
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file} has the suffix {file.suffix!r}: give a table in {', '.join(READERS)}")
    lines = list(READERS[file.suffix.lower()](file, required))
    if not lines:
        raise ValueError(f"{file} is empty: it has no line with a sample")
    return lines


def csv_lines(file: Path, required: Sequence[str]) -> Iterator[Line]:
    """The lines of a CSV file; see `read_table`."""
    table = csv.reader(text_lines(file), strict=True)
    columns: list[str] = []
    start = 1
    try:
        with cells_as_long_as_lines():
            for cells in table:
                number, start = start, table.line_num + 1
                if not cells:
                    continue
                if not columns:
                    columns = cells
                    check_columns(file, columns, required)
                    continue
                if len(cells) != len(columns):
                    wrong(file, number, f"has {len(cells)} cells, and there are {len(columns)} columns: put cells with commas into double quotes")
                yield Line(number, {column: cell or None for column, cell in zip(columns, cells, strict=True)})
    except csv.Error as error:
        wrong(file, start, f"is broken CSV: {error}")


@contextmanager
def cells_as_long_as_lines() -> Iterator[None]:
    """Raises the module's own limit of a cell, 131,072 characters, for the time of reading: our lines have one already."""
    before = csv.field_size_limit(LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def json_lines(file: Path, required: Sequence[str]) -> Iterator[Line]:
    """The lines of a JSON Lines file; see `read_table`."""
    for number, line in enumerate(text_lines(file), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, object_pairs_hook=each_key_once, parse_constant=no_json)
            if "\\u" in line:  # escapes can spell what no UTF-8 can hold: half of a pair of surrogates
                json.dumps(cells, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            wrong(file, number, f"is broken JSON: {error}")
        if not isinstance(cells, dict):
            wrong(file, number, "is no JSON object: write one a line, as in " + '{"label": "yes"}')
        check_columns(file, list(cells), required, number)
        yield Line(number, cells)


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, which by itself would silently keep the last of two values."""
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError(f"{shown(first_repeated(key for key, _ in pairs))} comes twice in one object")
    return cells


def no_json(constant: str) -> NoReturn:
    """Refuses NaN and infinities, which JSON does not have."""
    raise ValueError(f"{constant} is no number in JSON")


def parquet_lines(file: Path, required: Sequence[str]) -> Iterator[Line]:
    """The rows of a Parquet file; see `read_table`."""
    try:
        arrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(f"reading {file} needs pyarrow, which is not installed: pip install perceiver-lightning[parquet]") from error
    number = 0
    try:
        with parquet.ParquetFile(file) as opened:
            check_columns(file, opened.schema_arrow.names, required)
            for batch in opened.iter_batches(1_000):
                for cells in batch.to_pylist():
                    number += 1
                    yield Line(number, cells)
    except (arrow.ArrowException, OSError) as error:
        wrong(file, number + 1, f"cannot be read, the file is broken Parquet: {' '.join(str(error).split())}")


READERS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[Line]]] = {".csv": csv_lines, ".jsonl": json_lines, ".parquet": parquet_lines}


def text_lines(file: Path) -> Iterator[str]:
    """Lines of a UTF-8 file with their ends, without a byte order mark.

    Raises:
        ValueError: naming the line, when it is too long, not UTF-8, or has a NUL byte.
    """
    with open(file, "rb") as opened:
        number = 0
        while line := opened.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                wrong(file, number, f"is longer than {LINE_BYTES:,} bytes: long content belongs into a file of its own, which the line names")
            if b"\0" in line:
                wrong(file, number, "has a NUL byte: the file is no text, or broken")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong(file, number, f"is not UTF-8 at its byte {error.start + 1} ({error.reason}): save the file as UTF-8")


def check_columns(file: Path, columns: Sequence[str], required: Sequence[str], number: int | None = None) -> None:
    """Compares the columns of a table, or of one line of it, with those that it must have.

    Raises:
        ValueError: when one of them is missing, naming those that are there, or when one comes twice.
    """
    place = file if number is None else f"{file}, line {number}"
    if (twice := first_repeated(columns)) is not None:
        raise ValueError(f"{place} has the column {shown(twice)} twice: rename one of them")
    if missing := [column for column in required if column not in columns]:
        raise ValueError(f"{place} has no column {', '.join(map(repr, missing))}; there are {', '.join(map(shown, columns[:20])) or 'none'}")


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that comes more than once, if there is one."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def shown(cell: object) -> str:
    """A cell as messages quote it: in one line, and of a long one the beginning."""
    quoted = repr(cell)
    return quoted if len(quoted) <= 100 else f"{quoted[:100]}..."


def named(name: str) -> str:
    """A name as messages have it: as it is, unless it has line breaks, or no end."""
    return name if name.isprintable() and len(name) <= 300 else shown(name)


def wrong(file: Path, number: int, what: str) -> NoReturn:
    """Raises the error of a line."""
    raise ValueError(f"{file}, line {number} {what}")


def inside(root: Path, cell: str, sample: str) -> Path:
    """The path of a file below a folder. Whether the file is there, `check_there` says of all at once.

    Args:
        root: the folder, which itself may be a symbolic link.
        cell: path relative to it.
        sample: the id, for messages.

    Raises:
        ValueError: when the path is no relative path, or leaves the folder by `..` or through a symbolic link.
    """
    path = Path(cell)
    if not path.parts or "\0" in cell or path.anchor or ".." in path.parts:
        raise ValueError(f"{sample}: {shown(cell)} is no path below {root}: give one relative to it, without '..'")
    place = root
    for part in path.parts:
        place = place / part
        try:
            linked = place.is_symlink()
        except OSError as error:  # such as a name of more than 255 bytes: a text in the column of the paths
            raise ValueError(f"{sample}: {shown(cell)} is no path below {root} ({error.strerror}): give one relative to it") from error
        if linked:
            raise ValueError(f"{sample}: {place} is a symbolic link, which may lead out of {root}: put the files themselves there")
    return place


def check_there(files: Iterable[Path]) -> None:
    """Makes sure that all files that a table names are there.

    Raises:
        FileNotFoundError: counting those that are not, and naming the first.
    """
    if missing := list(dict.fromkeys(file for file in files if not file.is_file())):
        raise FileNotFoundError(
            f"{len(missing)} of the files that the table names are not there, the first one {named(str(missing[0]))}: add them, or take them out"
        )


def number_classes(labels: Iterable[str]) -> dict[str, int]:
    """Numbers of classes by name, in the order of the sorted names."""
    return {label: number for number, label in enumerate(sorted(set(labels)))}
