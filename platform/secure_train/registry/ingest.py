"""From a file of rows to typed columns, as `secure_train.training.encoding` describes them.

A file is taken as a whole or refused as a whole, with every problem counted and the first ones named.
"""

from __future__ import annotations

from typing import BinaryIO

import torch
from torch import Tensor

from secure_train.registry.cells import ColumnReader, feature_readers, target_reader
from secure_train.registry.errors import ProblemKind, Problems
from secure_train.registry.limits import DEFAULT_LIMITS, Limits
from secure_train.registry.tables import Format, Wanted, place_of, read
from secure_train.spec import DatasetSchema


def ingest(
    schema: DatasetSchema,
    content: BinaryIO,
    format: Format,  # noqa: A002
    limits: Limits = DEFAULT_LIMITS,
) -> dict[str, Tensor]:
    """Read features and target; ignored columns are not kept.

    Raises:
        RowErrors: the file does not fit the schema.
        TableTooLarge: it unfolds to more than the limits allow.
    """
    readers = [*feature_readers(schema), target_reader(schema)]
    ignored = frozenset(column.name for column in schema.columns) - {reader.name for reader in readers}
    return _read(readers, ignored, content, format, limits)


def ingest_features(schema: DatasetSchema, content: BinaryIO, format: Format) -> dict[str, Tensor]:  # noqa: A002
    """Read features only, to predict from; the target and ignored columns may be there and are not read.

    Raises:
        RowErrors: the file does not fit the schema.
    """
    readers = feature_readers(schema)
    names = frozenset(column.name for column in schema.columns) | {schema.target.name}
    return _read(readers, names - {reader.name for reader in readers}, content, format, DEFAULT_LIMITS)


def _read(
    readers: list[ColumnReader],
    optional: frozenset[str],
    content: BinaryIO,
    format: Format,  # noqa: A002
    limits: Limits,
) -> dict[str, Tensor]:
    problems = Problems(place_of(format))
    pieces: dict[str, list[Tensor]] = {reader.stored_as: [] for reader in readers}
    wanted = Wanted(tuple(reader.name for reader in readers), optional)
    rows = 0
    for chunk in read(content, format, wanted, problems, limits):
        rows += len(chunk.lines)
        for reader in readers:
            piece = reader.read(chunk.columns[reader.name], chunk.lines, problems)
            pieces[reader.stored_as].append(piece)
    if rows == 0 and problems.count == 0:
        problems.add(ProblemKind.NO_ROWS)
    problems.raise_if_any()
    return {name: torch.cat(parts) for name, parts in pieces.items()}
