"""Messages about jobs, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from secure_train.wire.base import Message


class SubmitJob(Message):
    """Submit a job. ``spec`` is a whole job.yaml as JSON; ``workdir`` a packed working directory, base64."""

    spec: dict[str, Any]
    idempotency_key: Annotated[str, Field(min_length=1, max_length=128)]
    workdir: str | None = None


class PlanJob(Message):
    """Ask what a job would cost and whether it would be allowed; nothing is submitted or reserved."""

    spec: dict[str, Any]


class JobPlan(Message):
    """The cost of a job and the decisions it would meet.

    ``epsilon`` at ``delta`` is of the job by itself. ``budget_*`` is of all jobs on the dataset together, at
    the dataset's own δ, by its rule of composition; ``budget_available_epsilon`` also regards the project's
    part. ``shortage`` says why the job does not fit; ``fitting_epsilon`` is the largest privacy.epsilon that
    would, all else being equal.
    """

    spec: dict[str, Any]
    dataset: str
    dataset_version: int
    training_rows: int
    epsilon: float
    delta: float
    training_epsilon: float
    evaluation_epsilon: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    allowed: bool
    decision_id: str
    reason: str
    policies: list[str]
    composition: str
    budget_epsilon: float
    budget_delta: float
    budget_used_epsilon: float
    budget_with_job_epsilon: float
    budget_available_epsilon: float
    fits_budget: bool
    shortage: str | None
    fitting_epsilon: float | None


class JobView(Message):
    """A job as it stands. ``phase`` says in words what it is doing: finer than ``state``, and for people.

    ``search``: the one that the job is a trial of.
    """

    id: str
    name: str
    project: str
    purpose: str
    submitted_by: str
    state: str
    phase: str
    reason: str
    dataset: str
    dataset_version: int
    priority: int
    epsilon: float
    delta: float
    spent_epsilon: float
    spent_delta: float
    noise_multiplier: float
    sampling_rate: float
    step: int
    steps: int
    attempt: int
    recoveries: int
    checkpoints: int
    model: str | None
    metrics: dict[str, Any]
    search: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class TransitionView(Message):
    """A change of state."""

    source: str
    target: str
    reason: str
    at: datetime


class CheckpointView(Message):
    """A checkpoint."""

    step: int
    noise_epoch: int
    state: str
    refusal: str
    digest: str
    logical_bytes: int
    stored_bytes: int
    seconds: float
    created_at: datetime


class RecoveryView(Message):
    """A death and what it cost."""

    cause: str
    last_step: int
    restored_step: int | None
    steps_repeated: int | None
    seconds: float | None
    detected_at: datetime
    resumed_at: datetime | None


class WorkerView(Message):
    """A worker as it last reported."""

    rank: int
    generation: int
    host: str
    pid: int
    step: int
    reported_at: datetime


class ReleaseView(Message):
    """Held-out metrics as released."""

    step: int
    noise_epoch: int
    metrics: dict[str, Any]
    epsilon: float
    at: datetime


class ProgressView(Message):
    """A point of the progress curve; all figures are public or charged."""

    seq: int
    noise_epoch: int
    generation: int
    step: int
    epsilon: float
    steps_per_second: float
    at: datetime


class LogLine(Message):
    """A line of the platform's log of a job."""

    seq: int
    at: datetime
    source: str
    level: str
    message: str


class JobDetail(Message):
    """A job with its whole life."""

    job: JobView
    spec: dict[str, Any]
    spec_digest: str
    code_digest: str | None
    transitions: list[TransitionView]
    checkpoints: list[CheckpointView]
    recoveries: list[RecoveryView]
    workers: list[WorkerView]
    releases: list[ReleaseView]
    progress: list[ProgressView]
