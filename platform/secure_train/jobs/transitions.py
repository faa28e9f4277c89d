"""Every change of a job's state passes through here: rules, then the row, its history, the audit event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.db import now
from secure_train.db.tables import Job, JobTransition
from secure_train.db.trail import Trail
from secure_train.jobs.errors import IllegalTransition, OutOfRestarts
from secure_train.jobs.journal import job_event
from secure_train.jobs.states import EDGES, TERMINAL, JobState
from secure_train.spec import job_from_json


@dataclass(frozen=True)
class Change:
    """A change of state that was asked for."""

    session: Session
    audit: Trail
    job: Job
    source: JobState
    target: JobState


class Rule(Protocol):
    """Refuses a change by raising, or does what must commit together with it."""

    def apply(self, change: Change) -> None:
        """Raise JobConflict, or act in the change's transaction."""


class AllowedEdge:
    """Only the edges of the state diagram exist."""

    def apply(self, change: Change) -> None:
        """Raise IllegalTransition for any other."""
        if change.target in EDGES[change.source]:
            return
        allowed = ", ".join(sorted(EDGES[change.source])) or "nothing: it has ended for good"
        raise IllegalTransition(
            f"job {change.job.id} is {change.source} and cannot become {change.target}; "
            f"what can follow: {allowed}"
        )


class RestartBudget:
    """A job recovers at most ``recovery.maxFailures`` times between being queued and its end."""

    def apply(self, change: Change) -> None:
        """Raise OutOfRestarts for one recovery too many."""
        if change.target is not JobState.RECOVERING:
            return
        allowed = job_from_json(change.job.spec).recovery.max_failures
        if restarts(change.session, change.job) >= allowed:
            raise OutOfRestarts(
                f"job {change.job.id} has used up its {allowed} restarts (recovery.maxFailures)"
            )


class TrialStarted:
    """A trial that its search never started cannot be resumed: its values may never have been chosen."""

    def apply(self, change: Change) -> None:
        """Raise IllegalTransition for a trial that was never queued."""
        if change.target is not JobState.QUEUED or change.source not in TERMINAL:
            return
        of_job = (JobTransition.job_id == change.job.id, JobTransition.target == JobState.QUEUED.value)
        if change.session.scalar(select(JobTransition.seq).where(*of_job).limit(1)) is None:
            raise IllegalTransition(
                f"job {change.job.id} is a trial that its search never started: submit a job with its "
                "values, or another search"
            )


class ReopenBudget:
    """A job that is queued again holds again what it had left of its budget."""

    def apply(self, change: Change) -> None:
        """Raise BudgetExceeded where others have taken that since."""
        if change.target is JobState.QUEUED and change.source in TERMINAL:
            ledger.reopen(change.session, change.audit, change.job)


class SettleOnEnd:
    """What a job did not spend goes back with its end; after that nothing can be charged to it."""

    def apply(self, change: Change) -> None:
        """Settle the reservation. A denied job has none."""
        if change.target in TERMINAL and change.target is not JobState.DENIED:
            ledger.settle(change.session, change.audit, change.job)


class Stamp:
    """Times of start and end, and a clean slate for a job that is queued again."""

    def apply(self, change: Change) -> None:
        """Set the row's times."""
        job = change.job
        if change.target is JobState.STARTING and job.started_at is None:
            job.started_at = now()
        if change.target in TERMINAL:
            job.finished_at = now()
        elif change.source in TERMINAL:
            job.finished_at = None
            job.cancel_requested_by = None


RULES: tuple[Rule, ...] = (
    AllowedEdge(),
    RestartBudget(),
    TrialStarted(),
    ReopenBudget(),
    SettleOnEnd(),
    Stamp(),
)


def transition(
    session: Session, audit: Trail, job: Job, target: JobState, reason: str, *, actor: str = "system"
) -> None:
    """Bring a job, whose row the caller has locked, into another state, in the caller's transaction.

    Raises:
        IllegalTransition: there is no such edge.
        OutOfRestarts: it would recover more often than its author allowed.
        BudgetExceeded: it would be queued again, and the dataset's budget no longer holds what it needs.
    """
    source = JobState(job.state)
    for rule in RULES:
        rule.apply(Change(session, audit, job, source, target))
    record(session, audit, job, source, target, reason, actor)


def record(
    session: Session, audit: Trail, job: Job, source: JobState, target: JobState, reason: str, actor: str
) -> None:
    """Write a change that the rules have passed: row, history and audit event."""
    last = session.scalar(select(func.max(JobTransition.seq)).where(JobTransition.job_id == job.id))
    seq = 0 if last is None else last + 1
    job.state, job.reason = target.value, reason
    session.add(
        JobTransition(job_id=job.id, seq=seq, source=source.value, target=target.value, reason=reason)
    )
    session.flush()
    data = {"from": source.value, "reason": reason, "attempt": job.attempt, "step": job.step}
    audit.append(session, job_event(f"job.{target.value}", job, seq, data, actor))


def waiting_since(session: Session, job: Job) -> datetime:
    """When the job came into the state that it is in."""
    moments = select(func.max(JobTransition.at)).where(
        JobTransition.job_id == job.id, JobTransition.target == job.state
    )
    return session.scalars(moments).one()


def restarts(session: Session, job: Job) -> int:
    """Count the deaths since the job was last queued."""
    of_job = select(func.max(JobTransition.seq)).where(JobTransition.job_id == job.id)
    queued = session.scalar(of_job.where(JobTransition.target == JobState.QUEUED.value))
    deaths = select(func.count()).where(
        JobTransition.job_id == job.id,
        JobTransition.target == JobState.RECOVERING.value,
        JobTransition.seq > (-1 if queued is None else queued),
    )
    return session.scalar(deaths) or 0
