"""What is written down about a job: events of the audit trail, and lines of the platform's own log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.audit import Event
from secure_train.db.tables import Job, JobLog

CONTROL = "control"


def job_event(kind: str, job: Job, key: str | int, data: Mapping[str, Any], actor: str) -> Event:
    """Build an event about a job; ``key`` tells occurrences of the same kind apart."""
    return Event(
        type=kind,
        actor=actor,
        subject=f"job:{job.id}",
        project=job.project_id,
        data=data,
        idempotency_key=f"{job.id}:{kind}:{key}",
    )


def log_line(session: Session, job: Job, message: str, *, level: str = "info", source: str = CONTROL) -> None:
    """Append a line to the job's log. The job's row must be locked by the caller's transaction.

    ``message`` comes from the platform's own templates: never an exception's message, never worker output.
    """
    last = session.scalar(select(func.max(JobLog.seq)).where(JobLog.job_id == job.id))
    seq = 0 if last is None else last + 1
    session.add(JobLog(job_id=job.id, seq=seq, source=source, level=level, message=message))
    session.flush()
