"""Reading rows: all or nothing, with every problem found."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_train.registry import ProblemKind, RowErrors
from secure_train.registry.errors import SHOWN_PROBLEMS
from secure_train.registry.ingest import ingest, ingest_features
from secure_train.registry.tables import CHUNK_ROWS, Format
from secure_train.spec import DatasetSchema, load_schema, schema_from_json

EXAMPLES = Path(__file__).parents[3] / "examples"
NUMBER = {"name": "x", "kind": "numeric", "lower": 0, "upper": 1}
COLOUR = {"name": "c", "kind": "categorical", "categories": ["red", "blau, hell", "?"]}
TARGET = {"name": "y", "task": "binary", "classes": ["yes", "no"], "positive": "yes"}


def schema(*columns: dict[str, Any], target: dict[str, Any] = TARGET) -> DatasetSchema:
    return schema_from_json({"columns": columns or (NUMBER, COLOUR), "target": target})


def read(text: str | bytes, **how: Any) -> dict[str, torch.Tensor]:
    raw = text if isinstance(text, bytes) else text.encode()
    return ingest(how.get("schema", schema()), io.BytesIO(raw), Format.CSV)


def refused(text: str | bytes, **how: Any) -> RowErrors:
    with pytest.raises(RowErrors) as caught:
        read(text, **how)
    return caught.value


def parquet(**columns: Any) -> io.BytesIO:
    written = io.BytesIO()
    polars.DataFrame(columns).write_parquet(written)
    written.seek(0)
    return written


def test_a_csv_file_becomes_typed_columns() -> None:
    columns = read('x,c,y\n 1.5,red,yes\n-2e3,"blau, hell",no\r\n.5,?,yes\n')
    assert columns["column/x"].dtype == torch.float64
    assert columns["column/x"].tolist() == [1.5, -2000.0, 0.5]
    assert columns["column/c"].dtype == torch.int32
    assert columns["column/c"].tolist() == [0, 1, 2]
    assert columns["target"].tolist() == [1, 0, 1]


def test_columns_are_found_by_name_and_ignored_ones_are_not_kept() -> None:
    ignored = {"name": "note", "kind": "ignored"}
    columns = read("y,note,x\nno,secret,0.25\n", schema=schema(NUMBER, ignored))
    assert set(columns) == {"column/x", "target"}
    assert columns["column/x"].tolist() == [0.25]


def test_a_value_that_is_not_listed_counts_as_other_where_the_schema_says_so() -> None:
    columns = read("c,y\nred,no\ngrey,no\n,no\n", schema=schema({**COLOUR, "unknown": "other"}))
    assert columns["column/c"].tolist() == [0, 3, 3]


def test_every_problem_is_reported_with_its_line_and_column() -> None:
    error = refused('x,c,y\n1,red,yes\nmany,red,yes\n,"a\nb",no\n1,red\nnan,?,maybe\n1,red,yes\n')
    found = [(problem.line, problem.column, problem.kind) for problem in error.problems]
    assert found == [
        (3, "x", ProblemKind.NOT_A_NUMBER),
        (4, "x", ProblemKind.EMPTY),
        (4, "c", ProblemKind.UNKNOWN_CATEGORY),
        (6, None, ProblemKind.WRONG_LENGTH),
        (7, "x", ProblemKind.NOT_A_NUMBER),
        (7, "y", ProblemKind.UNKNOWN_CATEGORY),
    ]
    assert error.count == 6


@pytest.mark.parametrize(
    "text", ["inf", "-Infinity", "NaN", "1e999", "1_000", "0x10", "1,5", "١٢", "1 2", "--1", "e5", "."]
)
def test_only_finite_decimal_numbers_are_numbers(text: str) -> None:
    error = refused(f'x,c,y\n"{text}",red,yes\n')
    assert [problem.kind for problem in error.problems] == [ProblemKind.NOT_A_NUMBER]


def test_offending_values_are_for_the_sender_and_not_for_the_log() -> None:
    error = refused("x,c,y\nsecret-number,secret-colour,yes\n")
    assert "secret" not in str(error)
    assert "line 2, column 'x' is not a number" in str(error)
    assert [entry["given"] for entry in error.to_json()] == ["secret-number", "secret-colour"]
    assert json.dumps(error.to_json())


def test_a_missing_header_does_not_put_a_record_into_the_message() -> None:
    error = refused("17,secret-colour,yes\n")
    assert "secret" not in str(error)
    assert {problem.kind for problem in error.problems} == {
        ProblemKind.MISSING_COLUMN,
        ProblemKind.UNLISTED_COLUMN,
    }


def test_a_long_list_of_problems_is_cut_but_counted() -> None:
    error = refused("x,c,y\n" + "bad,red,yes\n" * 1000)
    assert len(error.problems) == SHOWN_PROBLEMS
    assert error.count == 1000
    assert f"and {1000 - SHOWN_PROBLEMS} more" in str(error)


def test_lines_are_counted_through_chunks_and_quoted_line_breaks() -> None:
    head = 'x,c,note,y\n1,red,"two\nlines",yes\n'
    body = "1,red,n,yes\n" * (CHUNK_ROWS + 10)
    with_note = schema(NUMBER, COLOUR, {"name": "note", "kind": "ignored"})
    error = refused(head + body + "bad,red,n,yes\n", schema=with_note)
    assert [problem.line for problem in error.problems] == [CHUNK_ROWS + 14]


@pytest.mark.parametrize(
    ("raw", "line", "kind"),
    [
        (b"x,c,y\n1,red,yes\n1,\xff\xfe,yes\n", 3, ProblemKind.UNREADABLE),
        (b'x,c,y\n1,red,yes\n1,"red"x,yes\n', 3, ProblemKind.UNREADABLE),
        (b"x,c,y\n" + b"1,red,yes\n" * 5000 + b"1,\xff,yes\n", 5002, ProblemKind.UNREADABLE),
        (b"x,c,y\n", None, ProblemKind.NO_ROWS),
        (b"", None, ProblemKind.MISSING_COLUMN),
        (b"x,x,c,y\n1,1,red,yes\n", None, ProblemKind.REPEATED_COLUMN),
    ],
)
def test_a_file_that_is_no_table_is_refused(raw: bytes, line: int | None, kind: ProblemKind) -> None:
    error = refused(raw)
    assert (error.problems[0].line, error.problems[0].kind) == (line, kind)


def test_a_byte_order_mark_and_empty_lines_are_no_data() -> None:
    assert read(b"\xef\xbb\xbfx,c,y\n\n1,red,yes\n\n")["column/x"].tolist() == [1.0]


def test_reading_leaves_the_file_open_for_its_owner() -> None:
    opened = io.BytesIO(b"x,c,y\n1,red,yes\n")
    ingest(schema(), opened, Format.CSV)
    opened.seek(0)
    assert opened.read(5) == b"x,c,y"


def test_parquet_means_the_same_as_csv() -> None:
    file = parquet(x=[1.5, 2.0], c=["red", "?"], y=["no", "yes"])
    from_parquet = ingest(schema(), file, Format.PARQUET)
    from_csv = read("x,c,y\n1.5,red,no\n2,?,yes\n")
    assert all(torch.equal(from_parquet[name], from_csv[name]) for name in from_csv)


def test_whole_numbers_in_parquet_may_be_labels() -> None:
    digits = {"name": "y", "task": "multiclass", "classes": ["0", "1", "2"]}
    columns = ingest(schema(NUMBER, target=digits), parquet(x=[1, 2], y=[2, 0]), Format.PARQUET)
    assert columns["column/x"].tolist() == [1.0, 2.0]
    assert columns["target"].tolist() == [2, 0]


def test_problems_of_a_parquet_file_are_named_by_row() -> None:
    file = parquet(x=[1.0, None, float("inf")], c=["red", None, "pink"], y=["no", "no", "no"])
    with pytest.raises(RowErrors) as caught:
        ingest(schema(), file, Format.PARQUET)
    found = [(problem.line, problem.column, problem.kind) for problem in caught.value.problems]
    assert found == [
        (2, "x", ProblemKind.NOT_FINITE),
        (2, "c", ProblemKind.EMPTY),
        (3, "x", ProblemKind.NOT_FINITE),
        (3, "c", ProblemKind.UNKNOWN_CATEGORY),
    ]
    assert "row 2, column 'x'" in str(caught.value)


def test_a_parquet_column_that_is_neither_numbers_nor_text_is_refused() -> None:
    with pytest.raises(RowErrors, match="column 'c' cannot be read"):
        ingest(schema(), parquet(x=[1.0], c=[[1, 2]], y=["no"]), Format.PARQUET)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_never_break_the_reader(raw: bytes) -> None:
    for written_as in Format:
        with pytest.raises(RowErrors):
            ingest(schema(), io.BytesIO(raw), written_as)


def test_rows_to_predict_need_no_target() -> None:
    columns = ingest_features(schema(), io.BytesIO(b"c,x\nred,1\n"), Format.CSV)
    assert set(columns) == {"column/x", "column/c"}
    with_target = ingest_features(schema(), io.BytesIO(b"c,x,y\nred,1,anything\n"), Format.CSV)
    assert torch.equal(columns["column/x"], with_target["column/x"])


@pytest.mark.parametrize(
    ("folder", "file", "rows", "width"), [("adult", "adult", 32_561, 65), ("digits", "digits", 1_797, 64)]
)
def test_the_example_data_fits_its_schema(folder: str, file: str, rows: int, width: int) -> None:
    described = load_schema(EXAMPLES / folder / f"{folder}.schema.yaml")
    assert described.encoded_width() == width
    with (EXAMPLES / "data" / f"{file}.csv").open("rb") as opened:
        columns = ingest(described, opened, Format.CSV)
    assert {len(column) for column in columns.values()} == {rows}
