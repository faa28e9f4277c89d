"""CSV and Parquet files as pieces of columns, each row with its place in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

import numpy as np
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from secure_train.registry.errors import ProblemKind, Problems
from secure_train.registry.limits import DEFAULT_LIMITS, Limits
from secure_train.registry.values import Cells

CHUNK_ROWS = 8192


class Format(StrEnum):
    """The formats in which rows arrive."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows: the place of each (line of a CSV file, row of a Parquet file), and the wanted columns."""

    lines: Sequence[int]
    columns: dict[str, Cells]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns to read (None: all), and those that may be there too; any other is a problem."""

    needed: tuple[str, ...] | None
    optional: frozenset[str] = frozenset()


def place_of(format: Format) -> str:  # noqa: A002 (what it is called everywhere)
    """What a place in such a file is called."""
    return "line" if format is Format.CSV else "row"


def read(
    content: BinaryIO,
    format: Format,  # noqa: A002
    wanted: Wanted,
    problems: Problems,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Chunk]:
    """Yield the rows in the order of the file, reading it piece by piece.

    Raises:
        RowErrors: there is no way to go on reading.
        TableTooLarge: the file unfolds to more than the limits allow.
    """
    return (_csv if format is Format.CSV else _parquet)(content, wanted, problems, limits)


def _csv(content: BinaryIO, wanted: Wanted, problems: Problems, limits: Limits) -> Iterator[Chunk]:
    line = count = 0
    try:
        with _text(content) as text:
            reader = csv.reader(text, strict=True)
            header = next(reader, [])
            limits.require_columns(len(header))
            places = {name: header.index(name) for name in _checked(header, wanted, problems)}
            line = reader.line_num
            rows: list[list[str]] = []
            lines: list[int] = []
            for row in reader:
                # A quoted value may span lines: a row's place is where it begins.
                begin, line = line + 1, reader.line_num
                if len(row) != len(header):
                    if row or len(header) == 1:  # an empty line between rows is no row
                        problems.add(ProblemKind.WRONG_LENGTH, begin, None, str(len(row)), str(len(header)))
                    continue
                rows.append(row)
                lines.append(begin)
                count += 1
                if len(rows) == CHUNK_ROWS:
                    limits.require(count, len(places))
                    yield _chunk(rows, lines, places)
                    rows, lines = [], []
            limits.require(count, len(places))
            if rows:
                yield _chunk(rows, lines, places)
    except UnicodeDecodeError:
        problems.add(ProblemKind.UNREADABLE, _undecodable_line(content), None, None, "UTF-8 text")
        raise problems.error() from None
    except csv.Error as error:
        problems.add(ProblemKind.UNREADABLE, line + 1, None, str(error), "CSV as in RFC 4180")
        raise problems.error() from None


@contextmanager
def _text(content: BinaryIO) -> Iterator[io.TextIOWrapper]:
    text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()  # the file stays its owner's to close


def _undecodable_line(content: BinaryIO) -> int:
    # Text is decoded some kilobytes ahead of the rows: only a second look can tell the line.
    content.seek(0)
    for line, raw in enumerate(content, start=1):
        try:
            raw.decode()
        except UnicodeDecodeError:
            return line
    raise ValueError("the file changed while it was read")


def _chunk(rows: list[list[str]], lines: list[int], places: dict[str, int]) -> Chunk:
    return Chunk(lines, {name: [row[place] for row in rows] for name, place in places.items()})


def _parquet(content: BinaryIO, wanted: Wanted, problems: Problems, limits: Limits) -> Iterator[Chunk]:
    lines = 0
    try:
        file = pq.ParquetFile(pa.PythonFile(content, mode="r"))
        limits.require_columns(file.metadata.num_columns)
        names = _checked(file.schema_arrow.names, wanted, problems)
        limits.require(file.metadata.num_rows, len(names))
        # A value that is repeated is kept once: written out, a few long texts could fill the memory.
        texts = [name for name in names if _is_text(file.schema_arrow.field(name).type)]
        file = pq.ParquetFile(pa.PythonFile(content, mode="r"), read_dictionary=texts)
        _require_kinds(file.schema_arrow.empty_table().select(names), problems)
        size = 0
        for batch in file.iter_batches(CHUNK_ROWS, columns=names, use_threads=False):
            size += batch.nbytes
            limits.require(lines + batch.num_rows, len(names), size)
            _require_short(batch, limits)
            frame = polars.DataFrame(polars.from_arrow(pa.Table.from_batches([batch]))).select(names)
            places = range(lines + 1, lines + 1 + frame.height)
            lines += frame.height
            yield Chunk(places, {column.name: _cells(column) for column in frame.iter_columns()})
    except (pa.ArrowException, polars.exceptions.PolarsError, OSError) as error:
        problems.add(ProblemKind.UNREADABLE, None, None, type(error).__name__, "a Parquet file")
        raise problems.error() from None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _require_kinds(empty: pa.Table, problems: Problems) -> None:
    for column in polars.DataFrame(polars.from_arrow(empty)).iter_columns():
        if not (column.dtype.is_numeric() or column.dtype in _TEXTUAL):
            problems.add(ProblemKind.UNREADABLE, None, column.name, str(column.dtype), "numbers or text")
    problems.raise_if_any()


def _require_short(batch: pa.RecordBatch, limits: Limits) -> None:
    for column in batch.columns:
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if _is_text(texts.type):
            limits.require_text(pc.max(pc.binary_length(texts)).as_py() or 0)


_TEXTUAL = (polars.String, polars.Categorical, polars.Enum, polars.Boolean)


def _cells(column: polars.Series) -> Cells:
    if column.dtype.is_float() or column.dtype.is_decimal():
        return column.cast(polars.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    # Integers stay text: they may be labels, and as text "3" means the same label as in a CSV file.
    return list(column.cast(polars.String).fill_null(""))


def _checked(header: Sequence[str], wanted: Wanted, problems: Problems) -> list[str]:
    """Return the columns to read, or raise RowErrors."""
    names = header if wanted.needed is None else wanted.needed
    known = wanted.optional.union(names)
    for name in names:
        if name not in header:
            problems.add(ProblemKind.MISSING_COLUMN, None, name)
    # The header's own names are shown as values: where the header is missing, they are a record.
    for index, name in enumerate(header):
        if name in header[:index]:
            problems.add(ProblemKind.REPEATED_COLUMN, given=name)
        elif name not in known:
            problems.add(ProblemKind.UNLISTED_COLUMN, given=name)
    problems.raise_if_any()
    return list(names)
