"""A file may be small and unfold to more than the memory holds: it is refused first, by the limit's name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from secure_train.db.tables import Dataset
from secure_train.registry import Limits, TableTooLarge
from secure_train.registry.datasets import DatasetService
from secure_train.registry.ingest import ingest
from secure_train.registry.tables import CHUNK_ROWS, Format
from secure_train.spec import schema_from_json

SCHEMA = schema_from_json(
    {
        "columns": [
            {"name": "x", "kind": "numeric", "lower": 0, "upper": 1},
            {"name": "c", "kind": "categorical", "categories": ["a"], "unknown": "other"},
        ],
        "target": {"name": "y", "task": "binary", "classes": ["no", "yes"], "positive": "yes"},
    }
)


def parquet(rows: int, **changed: Any) -> io.BytesIO:
    columns = {"x": [0.5] * rows, "c": ["a"] * rows, "y": ["no", "yes"] * (rows // 2)} | changed
    written = io.BytesIO()
    pq.write_table(
        pa.table(columns), written, compression="zstd", store_schema=False, dictionary_pagesize_limit=2**26
    )
    written.seek(0)
    return written


def csv(rows: int) -> io.BytesIO:
    return io.BytesIO(("x,c,y\n" + "0.5,a,no\n" * rows).encode())


@pytest.mark.parametrize(("make", "format"), [(csv, Format.CSV), (parquet, Format.PARQUET)])
def test_too_many_rows_columns_or_bytes_are_refused_by_name(
    make: Callable[[int], io.BytesIO],
    format: Format,  # noqa: A002
) -> None:
    exact = Limits(rows=100, columns=3, unfolded_bytes=100 * 3 * 8)
    assert len(ingest(SCHEMA, make(100), format, exact)["target"]) == 100
    for limits, named in (
        (Limits(rows=99), "99 are taken"),
        (Limits(columns=2), "3 columns"),
        (Limits(unfolded_bytes=100 * 3 * 8 - 1), "bytes once it is unfolded"),
    ):
        with pytest.raises(TableTooLarge, match=named):
            ingest(SCHEMA, make(100), format, limits)


def test_a_tiny_file_of_very_many_rows_is_refused_before_any_is_read() -> None:
    file = parquet(4_000_000)
    assert len(file.getvalue()) < 100_000
    with pytest.raises(TableTooLarge, match="4,000,000"):
        ingest(SCHEMA, file, Format.PARQUET, Limits(rows=1_000_000))


def test_a_long_text_that_is_repeated_is_never_written_out() -> None:
    """Kept once, it takes 4 MB; written out, a chunk of rows with it would take 32 GB."""
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * CHUNK_ROWS, pa.int32()), ["a" * 4_000_000])
    file = parquet(CHUNK_ROWS, c=repeated)
    assert len(file.getvalue()) < 100_000
    with pytest.raises(TableTooLarge, match="characters in one value"):
        ingest(SCHEMA, file, Format.PARQUET)


def test_parquet_is_read_row_group_by_row_group_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    count = 3 * CHUNK_ROWS
    frame = {
        "y": ["no"] * count,
        "x": [row / count for row in range(count)],
        "c": ["a", "b", None] * CHUNK_ROWS,
    }
    polars.DataFrame(frame).write_parquet(path, row_group_size=1000)
    with path.open("rb") as file:
        columns = ingest(SCHEMA, file, Format.PARQUET)
    assert columns["column/x"].tolist() == frame["x"]
    assert columns["column/c"].tolist() == [0, 1, 1] * CHUNK_ROWS


def test_of_a_table_that_is_too_large_nothing_is_stored(
    census: Any, guard: Any, audit: Any, vault: Any, blocks: Any, stored_files: Any, database: Any
) -> None:
    service = DatasetService(guard, audit, vault, blocks, Limits(rows=39))
    with pytest.raises(TableTooLarge, match="nothing was stored"):
        service.register(census.olga, census.request(), census.csv(40))
    assert stored_files() == []
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 0
