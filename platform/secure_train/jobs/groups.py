"""Worker groups: each start is a new generation, and fences off all that were before."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from secure_train.db import now
from secure_train.db.tables import Job, JobWorker
from secure_train.db.trail import Trail
from secure_train.jobs.errors import JobConflict
from secure_train.jobs.journal import job_event, log_line
from secure_train.jobs.lineage import final_step
from secure_train.jobs.liveness import group_reported
from secure_train.jobs.recovery import fail, record_death
from secure_train.jobs.states import JobState
from secure_train.jobs.transitions import transition
from secure_train.spec import job_from_json
from secure_train.wire.worker import GroupStarted


def begin_group(
    session: Session, audit: Trail, job: Job, world_size: int, block_store: str
) -> GroupStarted | None:
    """Begin a new worker group. None: the job has failed instead, for its recorded reason.

    It fails if the group before it died unreported once too often, or if there is nothing left to train.

    A job that runs and whose group has been heard of can only get a new one because that died. One that was
    never heard of is the same start, announced again after the answer was lost. Raises JobConflict for a
    group of another size than the job asks for.
    """
    workers = job_from_json(job.spec).resources.workers
    if world_size != workers:
        raise JobConflict(f"{world_size} workers were started for {job.id}, which asks for {workers}")
    actor = f"job:{job.id}"
    if (
        job.state == JobState.RUNNING
        and group_reported(session, job)
        and not record_death(session, audit, job, "the worker group was restarted", actor=actor)
    ):
        return None
    if final_step(session, job) == 0:
        reason = (
            f"all {job.steps} steps that its ε pays for were charged, and then lost before a checkpoint held "
            "any of them: nothing is left to train. Submit it again, with a new share of the budget"
        )
        fail(session, audit, job, reason, actor=actor)
        return None
    job.generation += 1
    job.heartbeat_at = now()
    session.execute(delete(JobWorker).where(JobWorker.job_id == job.id))
    if job.state == JobState.STARTING:
        transition(session, audit, job, JobState.RUNNING, "a worker group has started", actor=actor)
    data = {"generation": job.generation, "workers": world_size, "noise_epoch": job.noise_epoch}
    audit.append(session, job_event("group.started", job, job.generation, data, actor))
    log_line(session, job, f"worker group {job.generation} of {world_size} workers has started")
    return GroupStarted(
        generation=job.generation,
        noise_epoch=job.noise_epoch,
        final_step=final_step(session, job),
        noise_multiplier=job.noise_multiplier,
        sampling_rate=job.sampling_rate,
        block_store=block_store,
    )
