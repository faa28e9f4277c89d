"""What can be wrong with a specification, said so that its author can repair it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass


class SpecificationError(Exception):
    """Root of every error that `secure_train.spec` raises."""


class WorkdirError(SpecificationError):
    """A working directory cannot be packed, or a package cannot be trusted or unpacked."""


@dataclass(frozen=True)
class SpecError:
    """One thing to repair in a specification.

    `path` is dotted (`privacy.epsilon`, `columns.3.lower`), empty for the document as a whole. `line` and
    `column` count from 1 and are None where the value did not come from a text. `override` is the
    `--set …` argument the value came from, if it did.
    """

    path: str
    message: str
    line: int | None = None
    column: int | None = None
    given: str | None = None
    allowed: str | None = None
    hint: str | None = None
    override: str | None = None

    def __str__(self) -> str:
        where = self.override
        if where is None and self.line is not None:
            where = f"line {self.line}, column {self.column}"
        subject = self.path or "the document"
        lines = [f"{subject} ({where}): {self.message}" if where else f"{subject}: {self.message}"]
        details = (("given", self.given), ("allowed", self.allowed), ("fix", self.hint))
        lines += [f"  {label + ':':<9}{text}" for label, text in details if text is not None]
        return "\n".join(lines)


class SpecErrors(SpecificationError):
    """A specification is refused; `.errors` lists everything wrong with it, in the order of the text."""

    def __init__(self, errors: Iterable[SpecError], source: str) -> None:
        self.errors = tuple(errors)
        self.source = source
        super().__init__(self.errors, source)

    def __str__(self) -> str:
        count = len(self.errors)
        head = f"{self.source}: {count} error{'' if count == 1 else 's'}"
        return "\n\n".join([head, *map(str, self.errors)])

    def to_json(self) -> dict[str, object]:
        """The same facts as plain JSON values: `{"source": …, "errors": [{"path": …, "line": …}, …]}`."""
        return {"source": self.source, "errors": [asdict(error) for error in self.errors]}
