"""Rows to try a job on that protect nobody: public ones from a file, or made up from a schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from secure_train.cli.errors import UsageError
from secure_train.registry import RegistryError
from secure_train.registry.ingest import ingest
from secure_train.registry.tables import Format as RowFormat
from secure_train.spec import DatasetSchema, RegressionTarget
from secure_train.training.encoding import Examples, encode

_SIGNAL = 3.0
_HELD_OUT = 0.2


@dataclass(frozen=True)
class PublicRows:
    """Encoded rows, split, and where they are from.

    Attributes:
        source: a file's name, or ``synthetic``.
        synthetic: made up: how well a model does on them says nothing about real rows.
    """

    source: str
    synthetic: bool
    training: Examples
    held_out: Examples


def read_rows(schema: DatasetSchema, file: Path) -> PublicRows:
    """Read and split a CSV or Parquet file; raises UsageError if it does not fit the schema."""
    form = RowFormat.PARQUET if file.suffix.lower() in {".parquet", ".pq"} else RowFormat.CSV
    try:
        with file.open("rb") as opened:
            columns = ingest(schema, opened, form)
    except RegistryError as error:
        raise UsageError(f"{file}: {error}") from error
    count = len(next(iter(columns.values())))
    return _split(file.name, False, encode(schema, columns, torch.arange(count)), schema)


def made_up_rows(schema: DatasetSchema, count: int) -> PublicRows:
    """Uniform features and a target that depends on them: a random linear rule with some noise."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(count, schema.encoded_width(), generator=generator) * 2 - 1
    outputs = schema.target.width if not isinstance(schema.target, RegressionTarget) else 1
    weights = torch.randn(schema.encoded_width(), outputs, generator=generator)
    scores = features @ weights
    scores = _SIGNAL * scores / scores.std() + torch.randn(scores.shape, generator=generator)
    if isinstance(schema.target, RegressionTarget):
        targets = torch.tanh(scores.squeeze(1) / _SIGNAL)
    elif schema.target.task == "binary":
        targets = (scores.squeeze(1) > 0).float()
    else:
        targets = scores.argmax(1)
    return _split("synthetic", True, Examples(features, targets), schema)


def _split(source: str, synthetic: bool, rows: Examples, schema: DatasetSchema) -> PublicRows:
    held_out = round(len(rows) * (schema.holdout.fraction or _HELD_OUT))
    if not 0 < held_out < len(rows):
        raise UsageError(f"{source}: {len(rows)} rows are too few to hold some out", "give more rows")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))

    def part(chosen: Tensor) -> Examples:
        return Examples(rows.features[chosen], rows.targets[chosen])

    return PublicRows(source, synthetic, part(order[held_out:]), part(order[:held_out]))
