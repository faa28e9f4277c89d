"""From stored columns to what a model is fed.

A dataset version is stored as one tensor per column, all of the same length and in the same order of rows:

======================  =======  ==========================================================================
name                    type     content
======================  =======  ==========================================================================
``column/NAME``         float64  a numeric feature as it was given
``column/NAME``         int32    a categorical feature: index in ``categories``, or their number for "other"
``target``              int32    binary: 1 for the positive label, else 0; multiclass: index in ``classes``
``target``              float64  regression: the number as it was given
``holdout``             bool     whether the row is held out
======================  =======  ==========================================================================

Encoding uses nothing but the row itself and the public schema, so it does not couple records: removing one
changes no other record's encoding, and the sensitivity of what is computed later is that of one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from secure_train.spec import CategoricalColumn, DatasetSchema, NumericColumn, RegressionTarget
from secure_train.training.errors import EncodingError

COLUMN_PREFIX = "column/"
TARGET = "target"
HOLDOUT = "holdout"


class Split(StrEnum):
    """The two parts of a dataset version."""

    TRAINING = "training"
    HOLDOUT = "holdout"


@dataclass(frozen=True, slots=True)
class Examples:
    """Encoded rows.

    Attributes:
        features: float32, (rows, ``schema.encoded_width()``); every value in [-1, 1].
        targets: (rows,). Binary: float32 0 or 1. Multiclass: int64 class index. Regression: float32 in
            [-1, 1].
    """

    features: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


def column_name(feature: str) -> str:
    """Name under which a feature's tensor is stored."""
    return COLUMN_PREFIX + feature


def split_rows(columns: Mapping[str, Tensor], split: Split) -> Tensor:
    """Indices of the rows of one split, ascending: int64, (rows of the split,)."""
    held_out = _column(columns, HOLDOUT, torch.bool)
    return torch.nonzero(held_out if split is Split.HOLDOUT else ~held_out).flatten()


def encode(schema: DatasetSchema, columns: Mapping[str, Tensor], rows: Tensor) -> Examples:
    """Encode the given rows (int64 indices), in the given order.

    Raises:
        EncodingError: a column is missing, or is not what the schema says.
    """
    chosen = {name: tensor[rows] for name, tensor in columns.items()}
    return Examples(encode_features(schema, chosen), encode_target(schema, chosen))


def encode_features(schema: DatasetSchema, columns: Mapping[str, Tensor]) -> Tensor:
    """Encode all rows of the feature columns: float32, (rows, ``schema.encoded_width()``).

    Numbers are clipped to their public bounds and scaled linearly; categories become one-hot.
    """
    first = schema.features[0]
    features = torch.zeros((len(_stored(columns, column_name(first.name))), schema.encoded_width()))
    start = 0
    for column in schema.features:
        place = features[:, start : start + column.width]
        if isinstance(column, NumericColumn):
            place[:, 0] = _scaled(_column(columns, column_name(column.name), torch.float64), column)
        else:
            place.scatter_(1, _codes(columns, column).unsqueeze(1), 1.0)
        start += column.width
    return features


def encode_target(schema: DatasetSchema, columns: Mapping[str, Tensor]) -> Tensor:
    """Encode all rows' targets; see `Examples.targets`."""
    target = schema.target
    if isinstance(target, RegressionTarget):
        values = _column(columns, TARGET, torch.float64).clamp(target.lower, target.upper)
        return (2 * (values - target.lower) / (target.upper - target.lower) - 1).float()
    codes = _column(columns, TARGET, torch.int32)
    _check_codes(TARGET, codes, len(target.classes))
    return codes.float() if target.task == "binary" else codes.long()


def _scaled(values: Tensor, column: NumericColumn) -> Tensor:
    unit = (values.clamp(column.lower, column.upper) - column.lower) / (column.upper - column.lower)
    return unit if column.scale == "unit" else 2 * unit - 1


def _codes(columns: Mapping[str, Tensor], column: CategoricalColumn) -> Tensor:
    codes = _column(columns, column_name(column.name), torch.int32)
    _check_codes(column_name(column.name), codes, column.width)
    return codes.long()


def _check_codes(name: str, codes: Tensor, count: int) -> None:
    if bool(((codes < 0) | (codes >= count)).any()):
        raise EncodingError(
            f"stored {name!r} holds a code outside 0..{count - 1}: schema and data do not match"
        )


def _stored(columns: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in columns:
        raise EncodingError(
            f"the stored rows lack {name!r}, which the schema lists: schema and data do not match"
        )
    return columns[name]


def _column(columns: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    tensor = _stored(columns, name)
    if tensor.dtype != dtype or tensor.dim() != 1:
        raise EncodingError(
            f"stored {name!r} is {tensor.dtype} with {tensor.dim()} dimensions; the schema makes it {dtype} "
            "with one: schema and data do not match"
        )
    if dtype.is_floating_point and not bool(tensor.isfinite().all()):
        raise EncodingError(f"stored {name!r} holds a value that is not a finite number")
    return tensor
