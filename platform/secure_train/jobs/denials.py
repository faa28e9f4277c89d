"""Submissions that were denied stay visible, as jobs in state ``denied``."""

from __future__ import annotations

from secure_train.db import Database
from secure_train.db.tables import Project
from secure_train.db.trail import Trail
from secure_train.jobs.cost import Cost
from secure_train.jobs.states import JobState
from secure_train.jobs.submission import Draft, add_job
from secure_train.jobs.transitions import transition


def keep_denied(database: Database, audit: Trail, draft: Draft, reason: str) -> None:
    """Keep a submission that policy or the budget denied; the guard has recorded the decision itself."""
    # Only what names an existing dataset and project, and fits them, can be a row.
    if draft.offer is None or not isinstance(draft.offer.price, Cost):
        return
    with database.write() as session:
        if session.get(Project, draft.submission.spec.metadata.project) is None:
            return
        # Its own id is its key: the submission may be repeated under its real one when the reason is gone.
        job = add_job(session, audit, draft, idempotency_key=draft.job_id)
        transition(session, audit, job, JobState.DENIED, reason, actor=draft.actor.id)
