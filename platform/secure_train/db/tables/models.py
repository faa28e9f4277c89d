"""Models and their immutable versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now


class Model(Base):
    """A named line of model versions in a project."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(63))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ModelVersion(Base):
    """What one job published: sealed weights, lineage, metrics and the DP statement."""

    __tablename__ = "model_versions"
    __table_args__ = (
        CheckConstraint("version > 0", name="version_positive"),
        CheckConstraint("stage IN ('candidate', 'production', 'retired')", name="stage_known"),
    )

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    manifest_id: Mapped[str] = mapped_column(String(80), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    lineage: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]] = mapped_column(comment="released values only")
    statement: Mapped[dict[str, Any]] = mapped_column(comment="the DP statement")
    stage: Mapped[str] = mapped_column(String(16), default="candidate")
    promoted_by: Mapped[str | None] = mapped_column(ForeignKey("principals.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
