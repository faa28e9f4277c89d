"""Rows as the messages that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train.db.tables import (
    BudgetReservation,
    Dataset,
    Job,
    JobCheckpoint,
    JobLog,
    JobProgress,
    JobRecovery,
    JobRelease,
    JobTransition,
    JobWorker,
    Model,
    ModelVersion,
    SearchTrial,
)
from secure_train.jobs.phases import phases
from secure_train.wire.jobs import (
    CheckpointView,
    JobDetail,
    JobView,
    LogLine,
    ProgressView,
    RecoveryView,
    ReleaseView,
    TransitionView,
    WorkerView,
)


def job_view(session: Session, job: Job) -> JobView:
    """Show a job as it stands."""
    return job_views(session, [job])[0]


def job_views(session: Session, jobs: Sequence[Job]) -> list[JobView]:
    """Show jobs as they stand; a fixed number of queries, however many there are."""
    ids = [job.id for job in jobs]
    datasets = {
        row.id: row.name for row in _rows(session, Dataset, Dataset.id, [job.dataset_id for job in jobs])
    }
    budgets = {row.job_id: row for row in _rows(session, BudgetReservation, BudgetReservation.job_id, ids)}
    recoveries, checkpoints = _count(session, JobRecovery, ids), _count(session, JobCheckpoint, ids)
    models, metrics = _models(session, ids), _metrics(session, ids)
    doing, searches = phases(session, jobs), _searches(session, ids)
    views = []
    for job in jobs:
        budget = budgets.get(job.id)
        views.append(
            JobView(
                id=job.id,
                name=job.name,
                project=job.project_id,
                purpose=job.purpose,
                submitted_by=job.submitted_by,
                state=job.state,
                phase=doing[job.id],
                reason=job.reason,
                dataset=datasets[job.dataset_id],
                dataset_version=job.dataset_version,
                priority=job.priority,
                epsilon=job.epsilon,
                delta=job.delta,
                spent_epsilon=0.0 if budget is None else budget.spent_epsilon,
                spent_delta=0.0 if budget is None else budget.spent_delta,
                noise_multiplier=job.noise_multiplier,
                sampling_rate=job.sampling_rate,
                step=job.step,
                steps=job.steps,
                attempt=job.attempt,
                recoveries=recoveries.get(job.id, 0),
                checkpoints=checkpoints.get(job.id, 0),
                model=models.get(job.id),
                metrics=metrics.get(job.id, {}),
                search=searches.get(job.id),
                created_at=job.created_at,
                started_at=job.started_at,
                finished_at=job.finished_at,
            )
        )
    return views


def job_detail(session: Session, job: Job) -> JobDetail:
    """Show a job with its whole life."""
    return JobDetail(
        job=job_view(session, job),
        spec=job.spec,
        spec_digest=f"sha256:{job.spec_digest}",
        code_digest=None if job.code_digest is None else f"sha256:{job.code_digest}",
        transitions=[
            TransitionView(source=row.source, target=row.target, reason=row.reason, at=row.at)
            for row in _of(session, JobTransition, job, JobTransition.seq)
        ],
        checkpoints=[
            CheckpointView(
                step=row.step,
                noise_epoch=row.noise_epoch,
                state=row.state,
                refusal=row.refusal,
                digest=row.digest,
                logical_bytes=row.logical_bytes,
                stored_bytes=row.stored_bytes,
                seconds=row.seconds,
                created_at=row.created_at,
            )
            for row in _of(session, JobCheckpoint, job, JobCheckpoint.noise_epoch, JobCheckpoint.step)
        ],
        recoveries=[
            RecoveryView(
                cause=row.cause,
                last_step=row.last_step,
                restored_step=row.restored_step,
                steps_repeated=row.steps_repeated,
                seconds=row.seconds,
                detected_at=row.detected_at,
                resumed_at=row.resumed_at,
            )
            for row in _of(session, JobRecovery, job, JobRecovery.seq)
        ],
        workers=[
            WorkerView(
                rank=row.rank,
                generation=row.generation,
                host=row.host,
                pid=row.pid,
                step=row.step,
                reported_at=row.reported_at,
            )
            for row in _of(session, JobWorker, job, JobWorker.rank)
        ],
        releases=release_views(session, job),
        progress=progress_views(session, job, after=-1),
    )


def release_views(session: Session, job: Job) -> list[ReleaseView]:
    """Show the released metrics, oldest first."""
    return [
        ReleaseView(
            step=row.step, noise_epoch=row.noise_epoch, metrics=row.metrics, epsilon=row.epsilon, at=row.at
        )
        for row in _of(session, JobRelease, job, JobRelease.noise_epoch, JobRelease.step)
    ]


def progress_views(session: Session, job: Job, after: int) -> list[ProgressView]:
    """Show the progress curve behind a sequence number."""
    query = select(JobProgress).where(JobProgress.job_id == job.id, JobProgress.seq > after)
    return [
        ProgressView(
            seq=row.seq,
            noise_epoch=row.noise_epoch,
            generation=row.generation,
            step=row.step,
            epsilon=row.epsilon,
            steps_per_second=row.steps_per_second,
            at=row.at,
        )
        for row in session.scalars(query.order_by(JobProgress.seq))
    ]


def log_lines(session: Session, job: Job, after: int) -> list[LogLine]:
    """Show the log behind a sequence number."""
    query = select(JobLog).where(JobLog.job_id == job.id, JobLog.seq > after).order_by(JobLog.seq)
    return [
        LogLine(seq=row.seq, at=row.at, source=row.source, level=row.level, message=row.message)
        for row in session.scalars(query)
    ]


def _rows(session: Session, table: Any, column: Any, values: list[str]) -> list[Any]:
    return list(session.scalars(select(table).where(column.in_(values))))


def _of(session: Session, table: Any, job: Job, *order: Any) -> list[Any]:
    return list(session.scalars(select(table).where(table.job_id == job.id).order_by(*order)))


def _count(session: Session, table: Any, ids: list[str]) -> dict[str, int]:
    query = select(table.job_id, func.count()).where(table.job_id.in_(ids)).group_by(table.job_id)
    return {job_id: int(count) for job_id, count in session.execute(query)}


def _models(session: Session, ids: list[str]) -> dict[str, str]:
    query = select(ModelVersion.job_id, Model.name, ModelVersion.version).join(
        Model, Model.id == ModelVersion.model_id
    )
    found = session.execute(query.where(ModelVersion.job_id.in_(ids)))
    return {job_id: f"{name}@{version}" for job_id, name, version in found}


def _searches(session: Session, ids: list[str]) -> dict[str, str]:
    query = select(SearchTrial.job_id, SearchTrial.search_id).where(SearchTrial.job_id.in_(ids))
    return dict(session.execute(query).all())


def _metrics(session: Session, ids: list[str]) -> dict[str, dict[str, Any]]:
    """The newest released metrics of each job."""
    query = select(JobRelease).where(JobRelease.job_id.in_(ids))
    newest = session.scalars(query.order_by(JobRelease.noise_epoch, JobRelease.step))
    return {row.job_id: row.metrics for row in newest}
