"""Drafting a schema from rows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_train.registry import NotFound
from secure_train.registry.infer import MAX_CATEGORIES, draft_schema
from secure_train.registry.ingest import ingest
from secure_train.registry.tables import Format
from secure_train.spec import CategoricalColumn, IgnoredColumn, NumericColumn, load_schema

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_a_draft_is_a_valid_schema_that_the_rows_fit() -> None:
    raw = (EXAMPLES / "data" / "adult.csv").read_bytes()
    draft = draft_schema(io.BytesIO(raw), Format.CSV, "income")
    schema = load_schema(draft.text)
    assert schema.target.task == "binary"
    assert len(ingest(schema, io.BytesIO(raw), Format.CSV)["target"]) == 32_561


def test_everything_that_was_learnt_from_the_rows_is_marked() -> None:
    raw = b"age,colour,id,y\n" + b"".join(b"%d,red,name %d,%d\n" % (n, n, n % 3) for n in range(200))
    draft = draft_schema(io.BytesIO(raw), Format.CSV, "y")
    schema = load_schema(draft.text)
    assert {column.name: type(column) for column in schema.columns} == {
        "age": NumericColumn,
        "colour": CategoricalColumn,
        "id": IgnoredColumn,
    }
    assert {(item.column, item.what) for item in draft.from_rows} == {
        ("age", "lower and upper"),
        ("colour", "categories"),
        ("y", "classes"),
    }
    assert draft.text.count("from the rows\n") == 3


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "binary"),
        (["0", "1", "2"], "multiclass"),
        ([str(n / 8) for n in range(99)], "regression"),
    ],
)
def test_the_task_follows_from_the_targets_values(values: list[str], task: str) -> None:
    raw = "x,y\n" + "".join(f"{place},{value}\n" for place, value in enumerate(values))
    assert load_schema(draft_schema(io.BytesIO(raw.encode()), Format.CSV, "y").text).target.task == task


def test_numeric_columns_with_gaps_are_told_of() -> None:
    draft = draft_schema(io.BytesIO(b"x,y\n1,a\n,b\n3,a\n"), Format.CSV, "y")
    assert draft.empty_cells == {"x": 1}


def test_text_with_gaps_gets_a_category_for_them() -> None:
    draft = draft_schema(io.BytesIO(b"c,x,y\nred,1,a\n,2,b\n"), Format.CSV, "y")
    column = load_schema(draft.text).columns[0]
    assert isinstance(column, CategoricalColumn)
    assert (column.categories, column.unknown) == (("red",), "other")


def test_a_target_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="'z'"):
        draft_schema(io.BytesIO(b"x,y\n1,a\n"), Format.CSV, "z")


LABEL = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cs", "Zl", "Zp"]),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip() == text and text == text.replace("\x85", ""))


@settings(max_examples=40)
@given(st.sets(LABEL, min_size=2, max_size=MAX_CATEGORIES))
def test_labels_of_any_spelling_survive_the_draft(labels: set[str]) -> None:
    quoted = ['"' + label.replace('"', '""') + '"' for label in sorted(labels)]
    raw = "c,y,x\n" + "".join(f"{label},{label},{place}\n" for place, label in enumerate(quoted))
    draft = draft_schema(io.BytesIO(raw.encode()), Format.CSV, "y")
    schema = load_schema(draft.text)
    assert len(ingest(schema, io.BytesIO(raw.encode()), Format.CSV)["target"]) == len(labels)
