"""A first draft of a dataset schema from its rows, for the owner to correct.

This runs where the rows are, on the owner's machine. A schema is published with its dataset, and every bound
and list drafted here was learnt from the rows: publishing the draft as it is would be a release without
privacy at all. So a draft says which values those are, and whoever uses it must first replace them by public
knowledge, or take the responsibility for releasing them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from secure_train.registry.errors import NotFound, Problems
from secure_train.registry.tables import Format, Wanted, place_of, read
from secure_train.registry.values import Cells, parse_number

MAX_CATEGORIES = 50
"""A text column with more distinct values than this looks like free text or an identifier, and is ignored."""
MAX_CLASSES = 20
"""A numeric target with at most this many distinct whole values looks like a label."""


@dataclass(frozen=True, slots=True)
class FromRows:
    """Something in a draft that was learnt from the rows.

    Attributes:
        column: name of the column.
        what: what was learnt, e.g. "lower and upper".
    """

    column: str
    what: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted schema.

    Attributes:
        text: YAML for `spec.load_schema`, with a comment at everything to correct.
        from_rows: what must be replaced by public knowledge, or be confirmed as a release, before publishing.
        empty_cells: numeric columns with cells that are empty or not finite, and how many there are:
            registering such rows fails.
    """

    text: str
    from_rows: tuple[FromRows, ...]
    empty_cells: dict[str, int]


def draft_schema(rows: BinaryIO, format: Format, target: str) -> Draft:  # noqa: A002
    """Draft a schema that these rows would fit.

    Raises:
        NotFound: there is no column ``target``.
        RowErrors: the file cannot be read.
    """
    problems = Problems(place_of(format))
    seen: dict[str, _Seen] = {}
    for chunk in read(rows, format, Wanted(None), problems):
        for name, cells in chunk.columns.items():
            seen.setdefault(name, _Seen()).add(cells)
    problems.raise_if_any()
    if target not in seen:
        raise NotFound(f"there is no column {target!r} with values; there are: {', '.join(seen) or 'none'}")
    columns = {name: _column(name, column) for name, column in seen.items() if name != target}
    goal = _target(target, seen[target])
    learnt = [_learnt(name, section) for name, section in columns.items()] + [_learnt(target, goal)]
    return Draft(
        _text(columns.values(), goal),
        tuple(item for item in learnt if item is not None),
        {name: s.unusable for name, s in seen.items() if s.is_number and s.unusable},
    )


@dataclass(slots=True)
class _Seen:
    """What a column held so far."""

    is_number: bool = True
    lower: float = math.inf
    upper: float = -math.inf
    unusable: int = 0
    distinct: set[str] = field(default_factory=set)

    def add(self, cells: Cells) -> None:
        if isinstance(cells, np.ndarray):
            finite = cells[np.isfinite(cells)]
            self._extend(finite.tolist(), len(cells) - len(finite))
            self._distinguish(map(str, np.unique(finite).tolist()))
            return
        if self.is_number:
            numbers = [parse_number(text) for text in cells if text.strip()]
            self.is_number = None not in numbers
            self._extend([number for number in numbers if number is not None], len(cells) - len(numbers))
        self._distinguish(cells)

    def _extend(self, numbers: list[float], unusable: int) -> None:
        self.lower, self.upper = min([self.lower, *numbers]), max([self.upper, *numbers])
        self.unusable += unusable

    def _distinguish(self, texts: Iterable[str]) -> None:
        # One more than any use of them allows is enough to know that there are too many.
        if len(self.distinct) <= MAX_CATEGORIES:
            self.distinct.update(texts)

    @property
    def is_spread(self) -> bool:
        """Whether the numbers span a range."""
        return self.is_number and self.lower < self.upper

    def labels(self) -> list[str]:
        """The distinct values, numbers by size."""
        if self.is_number:
            return sorted(self.distinct, key=lambda text: (parse_number(text) or 0.0, text))
        return sorted(self.distinct)


def _column(name: str, seen: _Seen) -> dict[str, Any]:
    if seen.is_spread:
        return {"name": name, "kind": "numeric", "lower": seen.lower, "upper": seen.upper}
    if not seen.is_number and len(seen.distinct) <= MAX_CATEGORIES and "" not in seen.distinct:
        return {"name": name, "kind": "categorical", "categories": seen.labels()}
    if not seen.is_number and len(seen.distinct) <= MAX_CATEGORIES:
        listed = [label for label in seen.labels() if label]
        return {"name": name, "kind": "categorical", "categories": listed, "unknown": "other"}
    return {"name": name, "kind": "ignored"}


def _target(name: str, seen: _Seen) -> dict[str, Any]:
    labels = seen.labels()
    if seen.is_spread and len(labels) > MAX_CLASSES:
        return {"name": name, "task": "regression", "lower": seen.lower, "upper": seen.upper}
    if len(labels) == 2:
        return {"name": name, "task": "binary", "classes": labels, "positive": labels[-1]}
    return {"name": name, "task": "multiclass", "classes": labels}


def _learnt(name: str, section: dict[str, Any]) -> FromRows | None:
    for what in ("categories", "classes"):
        if what in section:
            return FromRows(name, what)
    return FromRows(name, "lower and upper") if "lower" in section else None


def _text(columns: Iterable[dict[str, Any]], target: dict[str, Any]) -> str:
    lines = [
        "# A draft from the rows. A schema is published: replace each value marked `from the rows` by public",
        "# knowledge (documentation, law, what the field means), or accept that publishing it is a release.",
        "# Numbers below `lower` or above `upper` are clipped to them when the rows are registered.",
        "apiVersion: secure-train/v1",
        "kind: DatasetSchema",
        "columns:",
    ]
    lines += [f"  - {_flow(section)}" for section in columns]
    lines += [f"target: {_flow(target)}", "holdout: {fraction: 0.2, release: noised}"]
    return "\n".join(lines) + "\n"


def _flow(section: dict[str, Any]) -> str:
    # JSON values are YAML values too, and leave no doubt about what is text ("no", "1e5").
    flow = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in section.items())
    learnt = _learnt(section["name"], section)
    comment = ""
    if learnt is not None:
        comment = f"  # {learnt.what} from the rows"
    elif section.get("kind") == "ignored":
        comment = "  # constant, free text or an identifier"
    return f"{{{flow}}}{comment}"
