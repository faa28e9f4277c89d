"""Row locks, always taken in the order principal, project, job, dataset.

SQLite needs none: its writing transactions follow one another.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import Job, Principal, Project


def lock_job(session: Session, job_id: str) -> Job | None:
    """Return the job as it is now; nobody else changes it before this transaction ends."""
    query = select(Job).where(Job.id == job_id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def lock_project(session: Session, project_id: str) -> Project:
    """Return the project as it is now; nobody else starts a job of it before this transaction ends."""
    query = select(Project).where(Project.id == project_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def lock_principal(session: Session, principal_id: str) -> None:
    """Hold back other transactions that ask for this lock: a principal's submissions follow one another."""
    session.execute(select(Principal.id).where(Principal.id == principal_id).with_for_update(key_share=True))
