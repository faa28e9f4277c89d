"""Metrics on held-out rows: charged and stored in one transaction, before anybody sees them."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.db.tables import DatasetVersion, Job, JobCheckpoint, JobRelease
from secure_train.db.trail import Trail
from secure_train.jobs.errors import Diverged, JobConflict
from secure_train.jobs.journal import job_event, log_line
from secure_train.jobs.lineage import begin_noise_epoch, final_step, require_charged, require_epoch
from secure_train.spec import job_from_json, schema_from_json
from secure_train.wire.worker import Released, ReleaseMetrics

MAX_METRICS, MAX_NAME = 64, 64
# Shares of a budget are rounded to float64 one by one; their sum may exceed it by a few roundings.
ROUNDING = 1e-12


def release(session: Session, audit: Trail, job: Job, message: ReleaseMetrics) -> Released | Diverged:
    """Charge and store metrics, or return what was released for this step before.

    A Diverged that is returned is to be raised after the commit.

    The model that was evaluated must be that of a recorded checkpoint: its state digest is compared.
    ``epsilon`` is pure ε by record, added to training's (basic composition). Empty metrics in the answer:
    divergence has used up the share of ε that was set aside for evaluation, and nothing was released. Raises
    StaleWorker, JobConflict.
    """
    require_epoch(job, message.noise_epoch)
    require_charged(session, job, message.step)
    checkpoint = session.get(JobCheckpoint, (job.id, message.noise_epoch, message.step))
    if checkpoint is None:
        raise JobConflict(
            f"step {message.step} of {job.id} has no checkpoint: commit it before releasing its metrics"
        )
    if checkpoint.state_digest != message.state_digest:
        why = f"the model evaluated at step {message.step} is not that of its checkpoint"
        return begin_noise_epoch(session, audit, job, why)
    stored = session.get(JobRelease, (job.id, message.noise_epoch, message.step))
    if stored is not None:
        return Released(metrics=stored.metrics, epsilon=stored.epsilon)
    _require_plain(message.metrics)
    _require_exactness(session, job, message.epsilon)
    if not _affordable(session, job, message):
        text = f"metrics of step {message.step} stay unreleased: their ε went into steps that diverged"
        log_line(session, job, text, level="warning")
        return Released(metrics={}, epsilon=0.0)
    if message.epsilon > 0:
        _charge(session, audit, job, message)
    session.add(
        JobRelease(
            job_id=job.id,
            noise_epoch=message.noise_epoch,
            step=message.step,
            state_digest=message.state_digest,
            metrics=message.metrics,
            epsilon=message.epsilon,
        )
    )
    session.flush()
    data = {
        "step": message.step,
        "noise_epoch": message.noise_epoch,
        "epsilon": message.epsilon,
        "metrics": message.metrics,
    }
    key = f"{message.noise_epoch}:{message.step}"
    audit.append(session, job_event("metrics.released", job, key, data, f"job:{job.id}"))
    log_line(session, job, f"held-out metrics of step {message.step} released for ε = {message.epsilon:.4g}")
    return Released(metrics=message.metrics, epsilon=message.epsilon)


def _require_exactness(session: Session, job: Job, epsilon: float) -> None:
    """Metrics that cost nothing are exact ones: only where the owner has released the held-out rows."""
    version = session.get_one(DatasetVersion, (job.dataset_id, job.dataset_version))
    if epsilon == 0 and schema_from_json(version.schema).holdout.release != "exact":
        raise JobConflict(
            f"metrics of {job.id} cost nothing only if they are exact, and the owner of its dataset has not "
            "released the held-out rows for exact evaluation: noise them and state their ε"
        )


def _affordable(session: Session, job: Job, message: ReleaseMetrics) -> bool:
    """Whether the release fits what the job set aside; half of that is kept for the final evaluation.

    In the first noise epoch a release that does not fit is an error of the worker, and raises JobConflict.
    Later it is what divergence costs: the steps that are run again were evaluated before.
    """
    evaluation = job_from_json(job.spec).privacy.evaluation
    share = 0.0 if evaluation is None else evaluation.epsilon
    final = evaluation is None or evaluation.every is None or message.step == final_step(session, job)
    spent = session.scalar(select(func.sum(JobRelease.epsilon)).where(JobRelease.job_id == job.id)) or 0.0
    if spent + message.epsilon <= (share if final else share / 2) * (1 + ROUNDING):
        return True
    if job.noise_epoch > 0:
        return False
    raise JobConflict(
        f"{job.id} set ε = {share:g} aside for evaluation, half of it for the final one, and has released "
        f"metrics for {spent:g}: another {message.epsilon:g} at step {message.step} does not fit"
    )


def _charge(session: Session, audit: Trail, job: Job, message: ReleaseMetrics) -> None:
    try:
        ledger.charge_evaluation(session, audit, job, message.noise_epoch, message.step, message.epsilon)
    except ledger.ChargeRefused as refused:
        raise JobConflict(str(refused)) from refused


def _require_plain(metrics: dict[str, Any]) -> None:
    """A few named numbers, as a model's quality is; nothing that could carry records."""
    for name, value in metrics.items():
        if len(name) > MAX_NAME or not name.isprintable():
            raise JobConflict(f"metrics: a name is longer than {MAX_NAME} characters or not printable")
        number = isinstance(value, int | float)
        if value is not None and (not number or not math.isfinite(value)):
            raise JobConflict(f"metrics.{name}: a finite number or a truth value is needed")
    if len(metrics) > MAX_METRICS:
        raise JobConflict(f"metrics: {len(metrics)} values were sent; at most {MAX_METRICS} are released")
