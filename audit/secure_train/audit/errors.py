"""What can go wrong in the audit log. Everything derives from `AuditError`."""

from __future__ import annotations


class AuditError(Exception):
    """Root of every error raised by `secure_train.audit`."""


class InvalidEventError(AuditError):
    """An event cannot be recorded as it is; the message names the field and what it needs."""


class IdempotencyConflict(AuditError):
    """The idempotency key was already used for an event with other content."""


class UnsafeTransactionError(AuditError):
    """The caller's transaction cannot carry an append: autocommit, wrong isolation or unknown database."""


class NoteError(AuditError):
    """A signed note, checkpoint or verifier key is malformed, or no trusted key signed it."""


class ProofError(AuditError):
    """A Merkle proof does not lead to the root it was checked against."""


class TamperEvidence(AuditError):
    """The log, or an export of it, is not what was recorded.

    Attributes:
        index: sequence number of the first event that cannot be trusted: the bad one itself, or, where a
            signed head contradicts events that agree among themselves, the first that no other head confirms.
            None where the evidence concerns no event (the header of an export).
        reason: what was found, in words.
        line: 1-based line of the export file; None when a database was verified.
    """

    def __init__(self, *, index: int | None, reason: str, line: int | None = None) -> None:
        self.index = index
        self.reason = reason
        self.line = line
        where = f" at line {line}" if line is not None else ""
        where += f" from event {index}" if index is not None else ""
        super().__init__(f"tampering found{where}: {reason}")
