"""Deaths: what died, how far the job had come, from where it went on, and how long that took."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.db import now
from secure_train.db.tables import Job, JobRecovery, JobTransition
from secure_train.db.trail import Trail
from secure_train.jobs.errors import OutOfRestarts
from secure_train.jobs.journal import job_event, log_line
from secure_train.jobs.lineage import newest_good_step
from secure_train.jobs.states import JobState
from secure_train.jobs.transitions import transition


def record_death(session: Session, audit: Trail, job: Job, cause: str, *, actor: str = "system") -> bool:
    """Bring a job whose worker or driver died into ``recovering``, or fail it if that happened too often.

    Returns whether it recovers. The job's row must be locked. ``cause`` is the platform's own phrase or the
    type of an exception.
    """
    try:
        transition(session, audit, job, JobState.RECOVERING, cause, actor=actor)
    except OutOfRestarts as limit:
        fail(session, audit, job, f"{cause}; {limit}", actor=actor)
        return False
    last = session.scalar(select(func.max(JobRecovery.seq)).where(JobRecovery.job_id == job.id))
    seq = 0 if last is None else last + 1
    # Heartbeats lag behind: what is in a checkpoint was done, whether or not it has been reported.
    last_step = max(job.step, newest_good_step(session, job))
    session.add(JobRecovery(job_id=job.id, seq=seq, cause=cause, last_step=last_step))
    # Until a group has started again there is nobody to hear from.
    job.heartbeat_at = None
    text = f"{cause}, at step {last_step} or a little later; going back to the newest checkpoint"
    log_line(session, job, text, level="warning")
    return True


def fail(session: Session, audit: Trail, job: Job, reason: str, *, actor: str = "system") -> None:
    """End a job as failed."""
    transition(session, audit, job, JobState.FAILED, reason, actor=actor)
    log_line(session, job, f"failed: {reason}", level="error")


def record_restored(session: Session, job: Job, step: int) -> None:
    """Note for every open recovery from which step training goes on."""
    for row in _open(session, job):
        row.restored_step = step
        row.steps_repeated = max(0, row.last_step - step)


def training_goes_on(session: Session, audit: Trail, job: Job, step: int) -> None:
    """Close the open recoveries once training is beyond the step that it was restored to."""
    rows = _open(session, job)
    if not rows or any(row.restored_step is None or step <= row.restored_step for row in rows):
        return
    close_recoveries(session, audit, job)


def close_recoveries(session: Session, audit: Trail, job: Job) -> None:
    """Bring a recovering job back to ``running``, and tell what its deaths cost."""
    moment = now()
    for row in _open(session, job):
        row.resumed_at = moment
        row.seconds = round((moment - row.detected_at).total_seconds(), 3)
        data = {
            "cause": row.cause,
            "last_step": row.last_step,
            "restored_step": row.restored_step,
            "steps_repeated": row.steps_repeated,
            "seconds": row.seconds,
        }
        audit.append(session, job_event("job.recovery", job, row.seq, data, "system"))
        text = f"recovered after {row.seconds:.1f} s: training goes on from the checkpoint of step"
        log_line(session, job, f"{text} {row.restored_step}")
    if job.state == JobState.RECOVERING:
        transition(session, audit, job, JobState.RUNNING, "training goes on")
    session.flush()


def _open(session: Session, job: Job) -> list[JobRecovery]:
    """Deaths since the job was last queued that training has not got over yet."""
    queued = select(func.max(JobTransition.at)).where(
        JobTransition.job_id == job.id, JobTransition.target == JobState.QUEUED.value
    )
    query = select(JobRecovery).where(
        JobRecovery.job_id == job.id,
        JobRecovery.resumed_at.is_(None),
        JobRecovery.detected_at >= queued.scalar_subquery(),
    )
    return list(session.scalars(query.order_by(JobRecovery.seq)))
