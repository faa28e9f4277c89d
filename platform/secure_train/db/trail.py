"""The audit trail as services use it: events are kept with the session and appended just before it commits.

Appending takes the log's lock until the transaction ends (see ``secure_train.audit.AuditLog``). Doing it last
keeps that lock short, and after all row locks, so that transactions never deadlock over it.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.orm import Session

from secure_train.audit import AuditLog, Event

PENDING = "secure_train_pending_audit_events"


class Trail:
    """Collects events of a transaction; they are committed with it, or not at all."""

    def __init__(self, log: AuditLog) -> None:
        self.log = log

    def append(self, session: Session, new_event: Event) -> None:
        """Append an event when the session's transaction commits."""
        pending: list[Event] | None = session.info.get(PENDING)
        if pending is None:
            pending = session.info[PENDING] = []
            event.listen(session, "before_commit", self._flush)
        pending.append(new_event)

    def _flush(self, session: Session) -> None:
        if session.in_nested_transaction():
            return
        session.flush()
        pending: list[Event] = session.info[PENDING]
        self.log.append_many(session, pending)
        pending.clear()
