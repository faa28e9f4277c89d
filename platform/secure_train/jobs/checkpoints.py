"""The records of checkpoints: written, refused, restored, expired."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db import now
from secure_train.db.tables import Job, JobCheckpoint
from secure_train.db.trail import Trail
from secure_train.jobs.errors import Diverged, JobConflict
from secure_train.jobs.journal import job_event, log_line
from secure_train.jobs.lineage import (
    begin_noise_epoch,
    good_checkpoints,
    newest_good_step,
    require_charged,
    require_epoch,
)
from secure_train.spec import job_from_json
from secure_train.wire.worker import CheckpointRefused, CommitCheckpoint


def require_own(job: Job, manifest_id: str) -> None:
    """Refuse a manifest outside the job's own folder of the block store; raises JobConflict."""
    if not manifest_id.startswith(f"{job.id}/"):
        raise JobConflict(
            f"manifest {manifest_id!r} is not one of {job.id}: its id must begin with '{job.id}/'"
        )


def record_checkpoint(session: Session, audit: Trail, job: Job, message: CommitCheckpoint) -> Diverged | None:
    """Record a checkpoint whose manifest is durable.

    The same step with the same digest is the same state: repeated, it changes nothing, or replaces the
    manifest by the one that was written last. With another digest it has diverged: the error to raise after
    the commit is returned. Raises StaleWorker, JobConflict.
    """
    require_epoch(job, message.noise_epoch)
    require_own(job, message.manifest_id)
    require_charged(session, job, message.step)
    row = session.get(JobCheckpoint, (job.id, message.noise_epoch, message.step))
    if row is not None and row.state_digest != message.state_digest:
        why = f"step {message.step} gave another value when it was run again"
        return begin_noise_epoch(session, audit, job, why)
    if row is not None and row.state == "good" and row.manifest_id == message.manifest_id:
        return None
    stored = {
        "manifest_id": message.manifest_id,
        "digest": message.digest,
        "logical_bytes": message.logical_bytes,
        "stored_bytes": message.stored_bytes,
        "seconds": message.seconds,
    }
    if row is None:
        row = JobCheckpoint(
            job_id=job.id,
            noise_epoch=message.noise_epoch,
            step=message.step,
            state_digest=message.state_digest,
        )
        session.add(row)
    for name, value in stored.items():
        setattr(row, name, value)
    row.state, row.refusal, row.created_at = "good", "", now()
    session.flush()
    data = {"step": row.step, "noise_epoch": row.noise_epoch, "state_digest": row.state_digest, **stored}
    audit.append(
        session,
        job_event("checkpoint.written", job, f"{row.manifest_id}:{job.generation}", data, f"job:{job.id}"),
    )
    expire_old(session, audit, job, job_from_json(job.spec).recovery.keep_checkpoints)
    return None


def expire_old(session: Session, audit: Trail, job: Job, keep: int) -> None:
    """Expire all good checkpoints but the newest ``keep``; their manifests are deleted afterwards."""
    for row in good_checkpoints(session, job)[keep:]:
        row.state = "expired"
        data = {"step": row.step, "noise_epoch": row.noise_epoch, "manifest_id": row.manifest_id}
        audit.append(
            session,
            job_event("checkpoint.expired", job, f"{row.manifest_id}:{job.generation}", data, "system"),
        )
    session.flush()


def refuse_checkpoint(
    session: Session, audit: Trail, job: Job, message: CheckpointRefused
) -> Diverged | None:
    """Mark an unreadable checkpoint. Returns the error to raise after the commit if fresh noise is needed.

    It is, if that leaves only checkpoints from before the current noise epoch began: from an older one,
    training would come to this epoch's steps with another model and the same noise. Repeated, a refusal
    changes nothing. Raises JobConflict for what is no checkpoint to restore.
    """
    of_job = select(JobCheckpoint).where(
        JobCheckpoint.job_id == job.id, JobCheckpoint.manifest_id == message.manifest_id
    )
    row = session.scalar(of_job)
    if row is not None and row.state == "refused":
        return None
    if row is None or row.state != "good":
        raise JobConflict(f"{message.manifest_id!r} is not a good checkpoint of {job.id}")
    row.state, row.refusal = "refused", message.reason
    session.flush()
    data = {
        "step": row.step,
        "noise_epoch": row.noise_epoch,
        "manifest_id": row.manifest_id,
        "reason": message.reason,
    }
    audit.append(
        session,
        job_event("checkpoint.refused", job, f"{row.manifest_id}:{job.generation}", data, f"job:{job.id}"),
    )
    log_line(session, job, f"checkpoint of step {row.step} refused: {message.reason}", level="warning")
    if newest_good_step(session, job) >= job.noise_epoch_step:
        return None
    return begin_noise_epoch(session, audit, job, f"the checkpoint of step {row.step} cannot be read")


def require_restorable(session: Session, job: Job, step: int) -> None:
    """Refuse to go on from anywhere but a good checkpoint or the noise epoch's start; raises JobConflict."""
    steps = {row.step for row in good_checkpoints(session, job)} | {0}
    if step not in steps or step < job.noise_epoch_step:
        raise JobConflict(
            f"{job.id} cannot go on from step {step}: noise epoch {job.noise_epoch} began at step "
            f"{job.noise_epoch_step}, and good checkpoints are of steps {sorted(steps)}"
        )
