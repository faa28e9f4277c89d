"""ε against the quality of a job's model, trained on this machine on rows that protect nobody."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from secure_train.cli.errors import UsageError
from secure_train.cli.privacy.rows import PublicRows
from secure_train.dp.audit import Trained
from secure_train.dp.curve import CurvePlan, CurvePoint, quality_curve
from secure_train.jobs.cost import evaluation_epsilon, steps_of
from secure_train.spec import DatasetSchema, TrainingJob
from secure_train.training.encoding import Examples
from secure_train.training.failures import PermanentFailure
from secure_train.training.preparing import prepare_model
from secure_train.training.state import make_optimizer
from secure_train.training.tasks import Task, task_of


@dataclass(frozen=True)
class Curve:
    """A curve, and what it is of.

    Attributes:
        job: name of the specification.
        metric: ``accuracy``, or ``error`` (mean absolute error) for regression.
        source: of the rows.
        synthetic: if so, the values say nothing about real rows.
        rows: trained on.
        held_out: measured on.
        sampling_rate: q.
        steps: T.
        delta: of every point.
        points: ascending in ε, without privacy last.
    """

    job: str
    metric: str
    source: str
    synthetic: bool
    rows: int
    held_out: int
    sampling_rate: float
    steps: int
    delta: float
    points: tuple[CurvePoint, ...]


def plan_of(job: TrainingJob, rows: PublicRows, repeats: int) -> CurvePlan:
    """How a job's models are trained; raises UsageError if its batches are larger than the data.

    Of each ε, evaluations get the share that the job gives them of its own.
    """
    count = len(rows.training)
    if job.training.batch_size > count:
        raise UsageError(
            f"training.batchSize is {job.training.batch_size}, but {rows.source} has {count} training rows",
            "lower it with --set training.batchSize=N, or give more rows",
        )
    return CurvePlan(
        batch_size=job.training.batch_size,
        steps=steps_of(job, count),
        delta=job.privacy.delta,
        max_grad_norm=job.privacy.max_grad_norm,
        workers=job.resources.workers,
        training_share=1 - evaluation_epsilon(job) / job.privacy.epsilon,
        repeats=repeats,
    )


def curve_of(
    job: TrainingJob,
    schema: DatasetSchema,
    rows: PublicRows,
    plan: CurvePlan,
    epsilons: Sequence[float],
    *,
    code: Path | None,
    seed: int | None,
    progress: Callable[[int], None],
) -> Curve:
    """Train the job's model at every ε.

    Raises:
        UsageError: the model cannot be built or trained privately.
        InvalidParameterError: an ε cannot be met.
    """
    task = task_of(schema)
    try:
        model = prepare_model(job, schema, task, code)
    except PermanentFailure as failure:
        raise UsageError(str(failure)) from failure
    trained = Trained(model, task.batch_losses, partial(make_optimizer, job.training.optimizer))
    key = secrets.token_bytes(32) if seed is None else hashlib.sha256(f"curve {seed}".encode()).digest()
    points = quality_curve(
        plan,
        trained,
        (rows.training.features, rows.training.targets),
        partial(_quality, task, rows.held_out),
        epsilons,
        key,
        progress,
    )
    return Curve(
        job=job.metadata.name,
        metric="error" if schema.target.task == "regression" else "accuracy",
        source=rows.source,
        synthetic=rows.synthetic,
        rows=len(rows.training),
        held_out=len(rows.held_out),
        sampling_rate=plan.batch_size / len(rows.training),
        steps=plan.steps,
        delta=plan.delta,
        points=points,
    )


def _quality(task: Task, held_out: Examples, model: nn.Module) -> float:
    with torch.no_grad():
        sums = task.held_out(model(held_out.features), held_out.targets)
    return (sums.error if sums.correct is None else sums.correct) / sums.rows
