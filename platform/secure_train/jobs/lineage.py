"""Noise epochs: a step that is run again gives the identical value, or gets fresh noise and a new charge.

Sampling and noise are pure functions of (job key, rank, noise epoch, step). A digest of the state after a
step, weights and optimizer, tells whether two runs were identical. Where they were not, the same noise would
cover two different values, and their difference would be bare: so a new noise epoch begins at the newest good
checkpoint, and its steps are charged anew. Never more than T steps are charged over all epochs together.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.db.tables import BudgetCharge, Job, JobCheckpoint
from secure_train.db.trail import Trail
from secure_train.jobs.errors import Diverged, JobConflict, StaleWorker
from secure_train.jobs.journal import job_event, log_line


def final_step(session: Session, job: Job) -> int:
    """The step at which training ends: T less what earlier noise epochs were charged for nothing."""
    earlier = ledger.steps_charged(session, job, before_epoch=job.noise_epoch)
    return job.noise_epoch_step + job.steps - earlier


def good_checkpoints(session: Session, job: Job) -> list[JobCheckpoint]:
    """The checkpoints that training may be restored from, newest first."""
    query = select(JobCheckpoint).where(JobCheckpoint.job_id == job.id, JobCheckpoint.state == "good")
    return list(session.scalars(query.order_by(JobCheckpoint.step.desc(), JobCheckpoint.noise_epoch.desc())))


def newest_good_step(session: Session, job: Job) -> int:
    """Where training would go on now; 0 is the start."""
    return max((row.step for row in good_checkpoints(session, job)), default=0)


def require_epoch(job: Job, noise_epoch: int) -> None:
    """Refuse a request of another noise epoch; raises StaleWorker."""
    if noise_epoch != job.noise_epoch:
        raise StaleWorker(f"noise epoch {noise_epoch} is over: {job.id} is in noise epoch {job.noise_epoch}")


def require_charged(session: Session, job: Job, step: int) -> None:
    """Refuse what comes after steps that were not charged in this noise epoch; raises JobConflict."""
    covered = charged_until(session, job)
    if step > covered:
        raise JobConflict(
            f"steps {covered} to {step - 1} of {job.id} were not charged: charge steps before running them"
        )


def charged_until(session: Session, job: Job) -> int:
    """The first step of the current noise epoch that has not been charged."""
    query = select(BudgetCharge.first_step, BudgetCharge.last_step).where(
        BudgetCharge.job_id == job.id,
        BudgetCharge.kind == "training",
        BudgetCharge.noise_epoch == job.noise_epoch,
    )
    covered = job.noise_epoch_step
    for first, last in session.execute(query.order_by(BudgetCharge.first_step)):
        if first > covered:
            break
        covered = max(covered, last)
    return covered


def begin_noise_epoch(session: Session, audit: Trail, job: Job, why: str) -> Diverged:
    """Begin a new noise epoch and fence off the worker group. Returns the error to raise after the commit."""
    ended, start = job.noise_epoch, newest_good_step(session, job)
    job.noise_epoch += 1
    job.noise_epoch_step = start
    job.generation += 1
    job.step = start
    session.flush()
    data = {
        "noise_epoch": job.noise_epoch,
        "from_step": start,
        "final_step": final_step(session, job),
        "why": why,
    }
    audit.append(session, job_event("job.diverged", job, job.noise_epoch, data, f"job:{job.id}"))
    log_line(
        session,
        job,
        f"{why}: fresh noise from step {start} on (noise epoch {job.noise_epoch})",
        level="warning",
    )
    return Diverged(f"{why}: noise epoch {ended} of {job.id} is over; restart the worker group")
