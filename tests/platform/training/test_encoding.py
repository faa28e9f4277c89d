"""Encoding: what a model is fed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import DatasetSchema, schema_from_json
from secure_train.training.encoding import Split, encode, encode_features, encode_target, split_rows
from secure_train.training.errors import EncodingError

torch.set_num_threads(1)

COLUMNS = [
    {"name": "age", "kind": "numeric", "lower": 10, "upper": 90},
    {"name": "note", "kind": "ignored"},
    {"name": "colour", "kind": "categorical", "categories": ["red", "green"], "unknown": "other"},
    {"name": "share", "kind": "numeric", "lower": 0, "upper": 4, "scale": "unit"},
]
BINARY = {"name": "y", "task": "binary", "classes": ["no", "yes"], "positive": "yes"}


def schema(target: dict[str, Any] | None = None) -> DatasetSchema:
    return schema_from_json({"columns": COLUMNS, "target": target or BINARY})


def columns(rows: int = 3, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    stored = {
        "column/age": torch.tensor([10.0, 50.0, 90.0], dtype=torch.float64),
        "column/colour": torch.tensor([0, 1, 2], dtype=torch.int32),
        "column/share": torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64),
        "target": torch.tensor([0, 1, 1], dtype=torch.int32),
        "holdout": torch.tensor([False, True, False]),
    }
    return {name: tensor[:rows] for name, tensor in stored.items()} | changed


def test_numbers_are_scaled_to_their_bounds_and_categories_become_one_hot() -> None:
    features = encode_features(schema(), columns())
    assert features.dtype == torch.float32
    assert features.tolist() == [
        [-1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.25],
        [1.0, 0.0, 0.0, 1.0, 1.0],
    ]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_encoded_number_lies_within_its_public_range(values: list[float]) -> None:
    ages = torch.tensor(values, dtype=torch.float64)
    rows = len(values)
    encoded = encode_features(
        schema(),
        {
            "column/age": ages,
            "column/share": ages,
            "column/colour": torch.zeros(rows, dtype=torch.int32),
        },
    )
    assert encoded[:, 0].abs().max() <= 1
    assert encoded[:, 4].min() >= 0
    assert encoded[:, 4].max() <= 1


@given(st.permutations(range(3)))
def test_a_rows_encoding_does_not_depend_on_the_other_rows(order: list[int]) -> None:
    together = encode(schema(), columns(), torch.tensor(order))
    for place, row in enumerate(order):
        alone = encode(schema(), columns(), torch.tensor([row]))
        assert torch.equal(alone.features[0], together.features[place])
        assert torch.equal(alone.targets[0], together.targets[place])


def test_the_two_splits_are_disjoint_and_complete() -> None:
    training = split_rows(columns(), Split.TRAINING)
    held_out = split_rows(columns(), Split.HOLDOUT)
    assert training.tolist() == [0, 2]
    assert held_out.tolist() == [1]


@pytest.mark.parametrize(
    ("target", "stored", "expected", "dtype"),
    [
        (BINARY, torch.tensor([0, 1], dtype=torch.int32), [0.0, 1.0], torch.float32),
        (
            {"name": "y", "task": "multiclass", "classes": ["a", "b", "c"]},
            torch.tensor([2, 0], dtype=torch.int32),
            [2, 0],
            torch.int64,
        ),
        (
            {"name": "y", "task": "regression", "lower": 0, "upper": 10},
            torch.tensor([-5.0, 7.5], dtype=torch.float64),
            [-1.0, 0.5],
            torch.float32,
        ),
    ],
)
def test_targets_are_encoded_by_task(
    target: dict[str, Any], stored: torch.Tensor, expected: list[float], dtype: torch.dtype
) -> None:
    encoded = encode_target(schema(target), {"target": stored})
    assert encoded.dtype == dtype
    assert encoded.tolist() == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"column/colour": torch.tensor([0, 1, 3], dtype=torch.int32)}, "outside 0..2"),
        ({"column/colour": torch.tensor([0, -1, 2], dtype=torch.int32)}, "outside 0..2"),
        ({"column/age": torch.tensor([1.0, 2.0, 3.0])}, "float64"),
        ({"column/age": torch.tensor([1.0, float("nan"), 3.0], dtype=torch.float64)}, "not a finite"),
        ({"target": torch.tensor([0, 1, 2], dtype=torch.int32)}, "outside 0..1"),
        ({"holdout": torch.tensor([0, 1, 0])}, "torch.bool"),
    ],
)
def test_columns_that_do_not_fit_the_schema_are_refused(
    changed: dict[str, torch.Tensor], message: str
) -> None:
    stored = columns(**changed)

    def read() -> None:
        split_rows(stored, Split.TRAINING)
        encode(schema(), stored, torch.arange(3))

    with pytest.raises(EncodingError, match=message):
        read()


def test_a_missing_column_is_named() -> None:
    stored = columns()
    del stored["column/share"]
    with pytest.raises(EncodingError, match="column/share"):
        encode_features(schema(), stored)
