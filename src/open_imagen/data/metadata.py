"""Tables that list pictures and captions: metadata.jsonl, .csv or .parquet (imagefolder layout)."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.data.caption_text import decode_text
from open_imagen.errors import DataError, MissingDependency

NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
DELIMITERS = (",", ";", "\t")
"""Of tables that spreadsheets write, by the country that they are set to."""


class Row(NamedTuple):
    """A line of a table."""

    place: str
    """Where it stands, for messages."""
    values: dict[str, Any]
    problem: str = ""
    """Why it has no values."""


def read_rows(table: Path, file_column: str) -> Iterator[Row]:
    """The rows of a table, in its order.

    Raises:
        DataError: it cannot be read, is not text, or has no column ``file_column``.
        MissingDependency: it is a parquet file, and pyarrow is not installed.
    """
    if table.suffix == ".parquet":
        return _parquet_rows(table, file_column)
    try:
        text = decode_text(table.read_bytes())
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not text in UTF-8.", "Save it again as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}.") from error
    read = _csv_rows if table.suffix == ".csv" else _json_rows
    return read(table, text, file_column)


def _json_rows(table: Path, text: str, file_column: str) -> Iterator[Row]:
    # Only at line feeds: a caption may hold what else Unicode takes for the end of a line.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{table}, line {number}"
        try:
            values = json.loads(line)
            problem = "" if isinstance(values[file_column], str) else f"{file_column} is no text"
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            problem = str(error)
        if problem:
            wanted = f'{{"{file_column}": ..., "text": ...}}'
            yield Row(place, {}, f"{place}, is not {wanted}: {problem}.")
        else:
            yield Row(place, values)


def _csv_rows(table: Path, text: str, file_column: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 24)
    header = text.split("\n", 1)[0]
    for delimiter in DELIMITERS:
        columns = next(csv.reader([header.strip()], delimiter=delimiter), [])
        if file_column in columns:
            break
    else:
        raise _lacks(table, file_column, next(csv.reader([header.strip()]), []))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            place = f"{table}, line {reader.line_num}"
            yield Row(place, {}, f"{place}, is no row of a table: {error}.")
            continue
        if values is None:
            return
        place = f"{table}, line {reader.line_num}"
        cells: dict[Any, Any] = {key: cell or None for key, cell in values.items()}
        if None in cells or not cells.get(file_column):
            yield Row(place, {}, f"{place}, has other columns than the first line.")
        else:
            yield Row(place, cells)


def _parquet_rows(table: Path, file_column: str) -> Iterator[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency(
            f"Reading {table} needs the package pyarrow.", "Run: pip install pyarrow"
        ) from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
    except Exception as error:  # of a library in C++: its errors are many
        raise DataError(f"{table} cannot be read: {str(error).splitlines()[0]}.") from error
    if rows and file_column not in rows[0]:
        raise _lacks(table, file_column, list(rows[0]))
    for number, values in enumerate(rows):
        place = f"{table}, row {number}"
        if isinstance(values[file_column], str):
            yield Row(place, values)
        else:
            yield Row(place, {}, f"{place}: {file_column} is no text.")


def _lacks(table: Path, column: str, columns: list[str]) -> DataError:
    return DataError(
        f"{table} has no column {column!r}; it has {', '.join(columns) or 'none'}.",
        "Name the column of file names in data.file_column.",
    )
