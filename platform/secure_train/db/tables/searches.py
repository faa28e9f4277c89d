"""Searches for hyperparameters, and which jobs are their trials."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now

SEARCH_STATES = ("running", "succeeded", "failed", "cancelled", "denied")


class Search(Base):
    """One search. All its trials' jobs are there, with their budgets held, from its submission on."""

    __tablename__ = "searches"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_id", "dataset_version"], ["dataset_versions.dataset_id", "dataset_versions.version"]
        ),
        UniqueConstraint("submitted_by", "idempotency_key"),
        CheckConstraint("state IN ('" + "', '".join(SEARCH_STATES) + "')", name="state_known"),
        CheckConstraint("trials > 0 AND concurrency > 0", name="counts_positive"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    purpose: Mapped[str] = mapped_column(String(63))
    submitted_by: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    idempotency_key: Mapped[str] = mapped_column(String(128))
    spec: Mapped[dict[str, Any]] = mapped_column(comment="resolved search.yaml")
    spec_digest: Mapped[str] = mapped_column(String(64))
    code_digest: Mapped[str | None] = mapped_column(
        String(64), comment="digest of the packed working directory that all trials share"
    )
    dataset_id: Mapped[str] = mapped_column(String(40))
    dataset_version: Mapped[int]
    trials: Mapped[int] = mapped_column(comment="how many are charged at most")
    concurrency: Mapped[int] = mapped_column(comment="trials under way at once")
    state: Mapped[str] = mapped_column(String(16), default="running", index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    best_trial: Mapped[int | None] = mapped_column(comment="chosen by released metrics when it ended")
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class SearchTrial(Base):
    """One trial: an ordinary job, and the values that it sets in the template."""

    __tablename__ = "search_trials"
    __table_args__ = (CheckConstraint("number > 0", name="number_positive"),)

    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, comment="from 1, in the order in which they start")
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    parameters: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), comment="None until the sampler has chosen them"
    )
