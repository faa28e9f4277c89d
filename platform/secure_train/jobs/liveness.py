"""Heartbeats: who lives, how far training is, and since when nobody has been heard of."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.db import now
from secure_train.db.tables import BudgetReservation, Job, JobProgress, JobWorker
from secure_train.db.trail import Trail
from secure_train.jobs.errors import JobConflict
from secure_train.jobs.recovery import training_goes_on
from secure_train.jobs.states import JobState
from secure_train.spec import job_from_json
from secure_train.wire.worker import Heartbeat


def record_heartbeat(session: Session, audit: Trail, job: Job, message: Heartbeat) -> None:
    """Note that a worker lives, and its step; raises JobConflict for a rank or step that cannot be."""
    workers = job_from_json(job.spec).resources.workers
    if message.rank >= workers or message.step > job.steps:
        raise JobConflict(
            f"rank {message.rank}, step {message.step}: {job.id} has ranks below {workers} "
            f"and {job.steps} steps"
        )
    moment = now()
    row = session.get(JobWorker, (job.id, message.rank))
    if row is None:
        row = JobWorker(job_id=job.id, rank=message.rank)
        session.add(row)
    row.generation, row.host, row.pid = job.generation, message.host, message.pid
    row.step, row.reported_at = message.step, moment
    job.heartbeat_at = moment
    session.flush()
    if message.rank == 0:
        if message.step != job.step or not _has_progress(session, job):
            _record_progress(session, job, message)
        job.step = message.step
    training_goes_on(session, audit, job, message.step)


def group_reported(session: Session, job: Job) -> bool:
    """Whether a worker of the newest group has been heard of."""
    query = select(JobWorker.rank).where(JobWorker.job_id == job.id, JobWorker.generation == job.generation)
    return session.scalar(query.limit(1)) is not None


def group_awaited(job: Job) -> bool:
    """Whether the job's driver lives, or is to live, and no worker group has started yet."""
    return job.state in (JobState.STARTING, JobState.RECOVERING) and job.heartbeat_at is None


def last_sign_of_life(session: Session, job: Job) -> datetime | None:
    """When the worker that has been silent longest last reported; None while no group has started."""
    if job.heartbeat_at is None:
        return None
    query = select(JobWorker).where(JobWorker.job_id == job.id, JobWorker.generation == job.generation)
    return min((row.reported_at for row in session.scalars(query)), default=job.heartbeat_at)


def _has_progress(session: Session, job: Job) -> bool:
    query = select(JobProgress.seq).where(
        JobProgress.job_id == job.id, JobProgress.generation == job.generation
    )
    return session.scalar(query.limit(1)) is not None


def _record_progress(session: Session, job: Job, message: Heartbeat) -> None:
    last = session.scalar(select(func.max(JobProgress.seq)).where(JobProgress.job_id == job.id))
    session.add(
        JobProgress(
            job_id=job.id,
            seq=0 if last is None else last + 1,
            noise_epoch=job.noise_epoch,
            generation=job.generation,
            step=message.step,
            epsilon=session.get_one(BudgetReservation, job.id).spent_epsilon,
            steps_per_second=message.steps_per_second,
        )
    )
    session.flush()
