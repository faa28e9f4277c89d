"""What can go wrong with datasets and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHOWN_PROBLEMS = 50
"""How many problems of a file are listed; all are counted."""
SHOWN_CHARACTERS = 60


class RegistryError(Exception):
    """Root of this package's errors."""


class NotFound(RegistryError):
    """There is no such dataset, version or model. Only raised to those whom policy lets know."""


class AlreadyExists(RegistryError):
    """The name is taken in its project."""


class InvalidModel(RegistryError):
    """The weights that a job wants to publish are not those of its model."""


class NotServed(RegistryError):
    """The control plane does not run this model."""


class TableTooLarge(RegistryError):
    """A file of rows unfolds to more than the control plane takes; nothing of it was stored."""

    def __init__(self, what: str, given: str, allowed: str) -> None:
        super().__init__(
            f"the rows are refused: {given} {what}, and at most {allowed} are taken; nothing was stored. "
            "Leave out columns that are not needed, or register the rows as several datasets"
        )


class Retired(RegistryError):
    """The version was deleted: its weights are gone for good."""


class ProblemKind(StrEnum):
    """The kinds of problem with a file; the value is the message."""

    UNREADABLE = "cannot be read"
    MISSING_COLUMN = "is missing from the file"
    UNLISTED_COLUMN = "has a column that is not in the schema"
    REPEATED_COLUMN = "has a column twice"
    WRONG_LENGTH = "does not have as many values as the header"
    EMPTY = "is empty"
    NOT_A_NUMBER = "is not a number"
    NOT_FINITE = "is missing or not a finite number"
    UNKNOWN_CATEGORY = "is not one of the values in the schema"
    NO_ROWS = "holds no rows"
    TOO_FEW_ROWS = "holds too few rows for the held-out share"


_ABOUT_NAMES = frozenset({ProblemKind.UNLISTED_COLUMN, ProblemKind.REPEATED_COLUMN})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file.

    Attributes:
        kind: what is wrong.
        line: line of a CSV file (from 1, the header), row of a Parquet file (from 1), None for the file.
        column: name of a column of the schema, None for a whole line.
        given: the beginning of the offending text, for its owner's eyes only.
        allowed: what would be right.
    """

    kind: ProblemKind
    line: int | None = None
    column: str | None = None
    given: str | None = None
    allowed: str | None = None


class RowErrors(RegistryError):
    """A file of rows is refused as a whole, and nothing of it was stored.

    ``str()`` names lines, columns and kinds, so it may be logged. The offending values are in ``problems``
    alone, which goes to nobody but the one who sent the file.
    """

    def __init__(self, problems: Sequence[Problem], count: int, place: str = "line") -> None:
        self.problems = tuple(problems)
        self.count = count
        self.place = place
        super().__init__(self.problems, count, place)

    def __str__(self) -> str:
        return self._listed(with_names=False)

    def for_sender(self) -> str:
        """``str()`` with the names of columns that the schema lacks: in a file without a header, a record."""
        return self._listed(with_names=True)

    def _listed(self, *, with_names: bool) -> str:
        noun = "problem" if self.count == 1 else "problems"
        lines = [f"the rows are refused: {self.count} {noun}; nothing was stored"]
        for problem in self.problems:
            named = with_names and problem.kind in _ABOUT_NAMES and problem.given is not None
            name = f": {problem.given!r}" if named else ""
            lines.append(f"  {self._where(problem)} {problem.kind}{name}")
        if self.count > len(self.problems):
            lines.append(f"  … and {self.count - len(self.problems)} more")
        return "\n".join(lines)

    def to_json(self) -> list[dict[str, str | int | None]]:
        """The listed problems as JSON for the sender, with the offending values."""
        return [
            {
                "path": problem.column or "",
                "line": problem.line,
                "message": f"{self._where(problem)} {problem.kind}",
                "given": problem.given,
                "allowed": problem.allowed,
            }
            for problem in self.problems
        ]

    def _where(self, problem: Problem) -> str:
        line = None if problem.line is None else f"{self.place} {problem.line}"
        column = None if problem.column is None else f"column {problem.column!r}"
        return ", ".join(part for part in (line, column) if part) or "the file"


class Problems:
    """Counts all problems of a file and keeps the first few."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._first: list[Problem] = []
        self.count = 0

    def add(
        self,
        kind: ProblemKind,
        line: int | None = None,
        column: str | None = None,
        given: str | None = None,
        allowed: str | None = None,
    ) -> None:
        """Note a problem."""
        self.count += 1
        if len(self._first) < SHOWN_PROBLEMS:
            shown = (
                given if given is None or len(given) <= SHOWN_CHARACTERS else given[:SHOWN_CHARACTERS] + "…"
            )
            self._first.append(Problem(kind, line, column, shown, allowed))

    def raise_if_any(self) -> None:
        """Raise RowErrors if there was a problem."""
        if self.count:
            raise self.error()

    def error(self) -> RowErrors:
        """The error that reports what was noted."""
        # Columns are read one after another: bring the report into the order of the file.
        ordered = sorted(self._first, key=lambda problem: problem.line or 0)
        return RowErrors(ordered, self.count, self._place)
