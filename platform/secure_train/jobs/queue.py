"""Which job is next: by priority, then by age, as many of a project at once as the project may run."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.db.tables import Job
from secure_train.jobs.locks import lock_project
from secure_train.jobs.states import ACTIVE, JobState


def waiting_projects(session: Session) -> list[str]:
    """Return the projects that have a queued job."""
    query = select(Job.project_id).where(Job.state == JobState.QUEUED.value).distinct()
    return list(session.scalars(query.order_by(Job.project_id)))


def next_jobs(session: Session, project_id: str) -> list[Job]:
    """Return the jobs of a project that may start now, locked; the first is the most urgent.

    The project's row stays locked as well, so that two controllers together do not start more than it may
    run. A job that somebody else holds is passed over, and so is one whose former processes have not ended.
    """
    project = lock_project(session, project_id)
    running = session.scalar(
        select(func.count()).where(
            Job.project_id == project_id, Job.state.in_([state.value for state in ACTIVE])
        )
    )
    free = project.max_running_jobs - (running or 0)
    if free <= 0:
        return []
    query = (
        select(Job)
        .where(Job.project_id == project_id, Job.state == JobState.QUEUED.value, Job.submission_id.is_(None))
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(free)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    )
    return list(session.scalars(query))
