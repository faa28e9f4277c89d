"""Jobs and everything that happens to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now

STATES = (
    "submitted",
    "queued",
    "starting",
    "running",
    "recovering",
    "succeeded",
    "failed",
    "cancelled",
    "denied",
)


class Job(Base):
    """One training job. This row, never Ray's memory, is the truth about it."""

    __tablename__ = "jobs"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_id", "dataset_version"], ["dataset_versions.dataset_id", "dataset_versions.version"]
        ),
        UniqueConstraint("submitted_by", "idempotency_key"),
        CheckConstraint("state IN ('" + "', '".join(STATES) + "')", name="state_known"),
        CheckConstraint("steps > 0 AND step >= 0 AND step <= steps", name="step_range"),
        CheckConstraint("noise_multiplier > 0", name="noise_multiplier_positive"),
        CheckConstraint("sampling_rate > 0 AND sampling_rate <= 1", name="sampling_rate_range"),
        CheckConstraint(
            "attempt >= 0 AND generation >= 0 AND noise_epoch >= 0", name="counters_not_negative"
        ),
        Index("ix_jobs_queue", "state", "priority", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    purpose: Mapped[str] = mapped_column(String(63))
    submitted_by: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    idempotency_key: Mapped[str] = mapped_column(String(128))
    spec: Mapped[dict[str, Any]] = mapped_column(comment="resolved job.yaml")
    spec_digest: Mapped[str] = mapped_column(String(64))
    code_digest: Mapped[str | None] = mapped_column(
        String(64), comment="digest of the packed working directory"
    )
    dataset_id: Mapped[str] = mapped_column(String(40))
    dataset_version: Mapped[int]
    priority: Mapped[int] = mapped_column(default=50, comment="larger runs first")
    epsilon: Mapped[float] = mapped_column(comment="total: training plus evaluation")
    delta: Mapped[float]
    noise_multiplier: Mapped[float] = mapped_column(comment="σ: noise std over the clipping norm C")
    sampling_rate: Mapped[float] = mapped_column(comment="q of the Poisson sampler")
    steps: Mapped[int] = mapped_column(comment="T: logical steps of a whole run")
    wrapped_key: Mapped[bytes] = mapped_column(
        LargeBinary, comment="data key of checkpoints; parent of sampler and noise keys"
    )
    state: Mapped[str] = mapped_column(String(16), default="submitted")
    reason: Mapped[str] = mapped_column(
        Text, default="", comment="why it is in this state, for the person who asks"
    )
    step: Mapped[int] = mapped_column(default=0, comment="last step that a worker reported")
    attempt: Mapped[int] = mapped_column(
        default=0, comment="launches so far; fences capabilities of older ones"
    )
    generation: Mapped[int] = mapped_column(
        default=0, comment="worker groups started so far, over all attempts"
    )
    noise_epoch: Mapped[int] = mapped_column(
        default=0, comment="raised when a re-run was not identical: fresh noise, new charge"
    )
    noise_epoch_step: Mapped[int] = mapped_column(
        default=0, comment="step at which the current noise epoch began"
    )
    submission_id: Mapped[str | None] = mapped_column(
        String(80), comment="Ray Jobs id of the current attempt"
    )
    heartbeat_at: Mapped[datetime | None]
    cancel_requested_by: Mapped[str | None] = mapped_column(ForeignKey("principals.id"))
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobTransition(Base):
    """One change of a job's state."""

    __tablename__ = "job_transitions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime] = mapped_column(default=now)


class JobTicket(Base):
    """A single-use secret by which the driver of one attempt obtains its capability."""

    __tablename__ = "job_tickets"
    __table_args__ = (CheckConstraint("length(sha256) = 32", name="sha256_length"),)

    sha256: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt: Mapped[int]
    expires_at: Mapped[datetime]
    redeemed_at: Mapped[datetime | None]


class JobWorker(Base):
    """A worker of the newest worker group, as it last reported."""

    __tablename__ = "job_workers"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[int]
    host: Mapped[str] = mapped_column(String(128))
    pid: Mapped[int]
    step: Mapped[int] = mapped_column(default=0)
    reported_at: Mapped[datetime] = mapped_column(default=now)


class JobCheckpoint(Base):
    """A checkpoint whose manifest was durable before this row was."""

    __tablename__ = "job_checkpoints"
    __table_args__ = (
        CheckConstraint("state IN ('good', 'refused', 'expired')", name="state_known"),
        CheckConstraint("length(state_digest) = 64", name="state_digest_length"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    noise_epoch: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    manifest_id: Mapped[str] = mapped_column(String(120), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    state_digest: Mapped[str] = mapped_column(
        String(64), comment="SHA-256 of noise epoch, step, weights and optimizer state"
    )
    logical_bytes: Mapped[int]
    stored_bytes: Mapped[int]
    seconds: Mapped[float] = mapped_column(comment="from snapshot to durable")
    state: Mapped[str] = mapped_column(String(8), default="good")
    refusal: Mapped[str] = mapped_column(Text, default="", comment="which block of which tensor, and why")
    created_at: Mapped[datetime] = mapped_column(default=now)


class JobProgress(Base):
    """A report of progress: public figures only (step counts, throughput of expected batches, ε charged)."""

    __tablename__ = "job_progress"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    noise_epoch: Mapped[int]
    generation: Mapped[int]
    step: Mapped[int]
    epsilon: Mapped[float] = mapped_column(comment="charged so far")
    steps_per_second: Mapped[float]
    at: Mapped[datetime] = mapped_column(default=now)


class JobRelease(Base):
    """Metrics on held-out rows that have been released: charged and stored before anybody sees them."""

    __tablename__ = "job_releases"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    noise_epoch: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    state_digest: Mapped[str] = mapped_column(String(64), comment="state of the model that was evaluated")
    metrics: Mapped[dict[str, Any]]
    epsilon: Mapped[float]
    at: Mapped[datetime] = mapped_column(default=now)


class JobRecovery(Base):
    """A death and what it cost."""

    __tablename__ = "job_recoveries"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(String(200))
    last_step: Mapped[int]
    restored_step: Mapped[int | None]
    steps_repeated: Mapped[int | None]
    seconds: Mapped[float | None] = mapped_column(comment="from detection to the first new step")
    detected_at: Mapped[datetime] = mapped_column(default=now)
    resumed_at: Mapped[datetime | None]


class JobLog(Base):
    """A line of the platform's own log of a job. Never a worker's raw output, which may hold records."""

    __tablename__ = "job_logs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    source: Mapped[str] = mapped_column(String(32), comment="'control', 'driver', 'worker 0', …")
    level: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(Text)
