"""One column of a file, from text to numbers or codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secure_train.registry.errors import ProblemKind, Problems
from secure_train.registry.values import Cells, parse_number
from secure_train.spec import CategoricalColumn, DatasetSchema, NumericColumn, RegressionTarget
from secure_train.training.encoding import TARGET, column_name

_LISTED_CATEGORIES = 12


class ColumnReader(Protocol):
    """Reads the pieces of one column."""

    @property
    def name(self) -> str:
        """Name of the column in the file."""
        ...

    @property
    def stored_as(self) -> str:
        """Name of the tensor it becomes."""
        ...

    def read(self, cells: Cells, lines: Sequence[int], problems: Problems) -> Tensor:
        """Convert a piece; what cannot be converted is noted, and its value in the result means nothing."""
        ...


@dataclass(frozen=True, slots=True)
class NumberReader:
    """A column of finite numbers, to float64."""

    name: str
    stored_as: str

    def read(self, cells: Cells, lines: Sequence[int], problems: Problems) -> Tensor:
        """See `ColumnReader.read`."""
        if not isinstance(cells, np.ndarray):
            cells = self._parse(cells, lines, problems)
        else:
            for index in np.flatnonzero(~np.isfinite(cells)).tolist():
                problems.add(ProblemKind.NOT_FINITE, lines[index], self.name, allowed="a finite number")
        return torch.from_numpy(np.array(cells, dtype=np.float64))

    def _parse(self, cells: Sequence[str], lines: Sequence[int], problems: Problems) -> NDArray[np.float64]:
        values = np.zeros(len(cells))
        for index, text in enumerate(cells):
            value = parse_number(text)
            if value is not None:
                values[index] = value
            else:
                kind = ProblemKind.NOT_A_NUMBER if text.strip() else ProblemKind.EMPTY
                problems.add(kind, lines[index], self.name, text, "a finite number")
        return values


@dataclass(frozen=True, slots=True)
class CodeReader:
    """A column of listed values, to int32 codes. ``other`` is the code of what is not listed, if allowed."""

    name: str
    stored_as: str
    codes: Mapping[str, int]
    other: int | None

    def read(self, cells: Cells, lines: Sequence[int], problems: Problems) -> Tensor:
        """See `ColumnReader.read`."""
        texts = [str(cell) for cell in cells] if isinstance(cells, np.ndarray) else cells
        if self.other is not None:
            return torch.tensor([self.codes.get(text, self.other) for text in texts], dtype=torch.int32)
        result = [self.codes.get(text, -1) for text in texts]
        if -1 in result:
            allowed = self._allowed()
            for index, code in enumerate(result):
                if code == -1:
                    kind = ProblemKind.UNKNOWN_CATEGORY if texts[index] else ProblemKind.EMPTY
                    problems.add(kind, lines[index], self.name, texts[index], allowed)
        return torch.tensor(result, dtype=torch.int32)

    def _allowed(self) -> str:
        listed = ", ".join(list(self.codes)[:_LISTED_CATEGORIES])
        return listed if len(self.codes) <= _LISTED_CATEGORIES else f"{listed}, … ({len(self.codes)} in all)"


def feature_readers(schema: DatasetSchema) -> list[ColumnReader]:
    """Readers of the columns that are encoded."""
    return [_feature_reader(column) for column in schema.features]


def target_reader(schema: DatasetSchema) -> ColumnReader:
    """Reader of the target column."""
    target = schema.target
    if isinstance(target, RegressionTarget):
        return NumberReader(target.name, TARGET)
    labels = (target.negative, target.positive) if target.task == "binary" else target.classes
    return CodeReader(target.name, TARGET, {label: code for code, label in enumerate(labels)}, None)


def _feature_reader(column: NumericColumn | CategoricalColumn) -> ColumnReader:
    stored_as = column_name(column.name)
    if isinstance(column, NumericColumn):
        return NumberReader(column.name, stored_as)
    codes = {category: code for code, category in enumerate(column.categories)}
    return CodeReader(column.name, stored_as, codes, len(codes) if column.unknown == "other" else None)
