"""The DP statement of a finished job, from what was really run and released."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import dp, ledger
from secure_train.db.tables import DatasetVersion, Job, JobRelease
from secure_train.jobs.search.tuning import tuning_of
from secure_train.spec import CategoricalColumn, NumericColumn, job_from_json, schema_from_json


def statement_of(session: Session, job: Job) -> dp.DPStatement:
    """State what a job guarantees: all steps charged over all noise epochs, and every release of metrics.

    Computing it takes seconds: call it in a reading transaction. Raises AccountingDisagreement.
    """
    spec = job_from_json(job.spec)
    version = session.get_one(DatasetVersion, (job.dataset_id, job.dataset_version))
    releases = select(JobRelease).where(JobRelease.job_id == job.id, JobRelease.epsilon > 0)
    return dp.build_statement(
        dp.Mechanism(job.noise_multiplier, job.sampling_rate, ledger.steps_charged(session, job)),
        job.delta,
        max_grad_norm=spec.privacy.max_grad_norm,
        clipping=dp.Clipping.FLAT,
        expected_batch_size=spec.training.batch_size,
        workers=spec.resources.workers,
        public_inputs=_public_inputs(version),
        evaluations=[
            dp.EvaluationRelease(name=f"step {row.step}, noise epoch {row.noise_epoch}", epsilon=row.epsilon)
            for row in session.scalars(releases.order_by(JobRelease.noise_epoch, JobRelease.step))
        ],
        tuning=tuning_of(session, job),
    )


def newest_metrics(session: Session, job: Job) -> dict[str, Any]:
    """The metrics that were released last; empty if none were."""
    query = select(JobRelease).where(JobRelease.job_id == job.id)
    row = session.scalar(query.order_by(JobRelease.noise_epoch.desc(), JobRelease.step.desc()).limit(1))
    return {} if row is None else dict(row.metrics)


def _public_inputs(version: DatasetVersion) -> dict[str, Any]:
    schema = schema_from_json(version.schema)
    inputs: dict[str, Any] = {"rows": version.training_rows, "held-out rows": version.holdout_rows}
    for column in schema.features:
        if isinstance(column, NumericColumn):
            inputs[f"bounds of {column.name}"] = f"[{column.lower:g}, {column.upper:g}]"
        elif isinstance(column, CategoricalColumn):
            inputs[f"categories of {column.name}"] = list(column.categories)
    return inputs
