"""What a job is doing now, in a few words: finer than its state, and read from the same rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import Job, JobTicket, JobWorker
from secure_train.jobs.states import TERMINAL, JobState


def phases(session: Session, jobs: Sequence[Job]) -> dict[str, str]:
    """Return every job's phase by its id; two queries, however many there are."""
    ids = [job.id for job in jobs]
    tickets = select(JobTicket.job_id, JobTicket.attempt)
    redeemed = session.execute(tickets.where(JobTicket.job_id.in_(ids), JobTicket.redeemed_at.is_not(None)))
    drivers = {(job_id, attempt) for job_id, attempt in redeemed}
    reported = session.execute(
        select(JobWorker.job_id, JobWorker.generation).where(JobWorker.job_id.in_(ids))
    )
    groups = {(job_id, generation) for job_id, generation in reported}
    return {
        job.id: phase(
            job,
            driver_lives=(job.id, job.attempt) in drivers,
            group_reported=(job.id, job.generation) in groups,
        )
        for job in jobs
    }


def phase(job: Job, *, driver_lives: bool, group_reported: bool) -> str:
    """Say what a job is doing.

    Args:
        job: its row. ``heartbeat_at`` is None from a launch or a death until a worker group has started.
        driver_lives: the driver of its attempt has redeemed its ticket.
        group_reported: a worker of its newest group has done a step.
    """
    state = JobState(job.state)
    if state in TERMINAL:
        return state.value
    if state in {JobState.SUBMITTED, JobState.QUEUED}:
        return "waiting for its turn"
    again = " again" if state is JobState.RECOVERING else ""
    if not driver_lives:
        return f"starting the driver{again}"
    if job.heartbeat_at is None:
        return f"starting the workers{again}"
    if not group_reported:
        return "restoring the newest checkpoint" if again else "loading the dataset"
    if job.step >= job.steps:
        return "publishing the model"
    return "repeating steps" if again else "training"
