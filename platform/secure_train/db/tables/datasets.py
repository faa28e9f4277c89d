"""Datasets and their immutable versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now


class Dataset(Base):
    """A named dataset. The privacy budget belongs to it, not to a version."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        CheckConstraint("classification BETWEEN 0 AND 3", name="classification_range"),
        CheckConstraint("unit IN ('record')", name="unit_known"),
        CheckConstraint("budget_epsilon > 0", name="budget_epsilon_positive"),
        CheckConstraint("budget_delta > 0 AND budget_delta < 1", name="budget_delta_range"),
        CheckConstraint("composition IN ('rdp-filter', 'basic')", name="composition_known"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(63))
    owner_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    classification: Mapped[int] = mapped_column(comment="as principals.clearance")
    purposes: Mapped[list[str]] = mapped_column(comment="purposes a job may state")
    unit: Mapped[str] = mapped_column(String(16), default="record", comment="unit of privacy")
    budget_epsilon: Mapped[float]
    budget_delta: Mapped[float] = mapped_column(comment="never changes: see secure_train.dp.composition")
    composition: Mapped[str] = mapped_column(
        String(16), default="rdp-filter", comment="how jobs add up; never changes"
    )
    created_at: Mapped[datetime] = mapped_column(default=now)


class DatasetVersion(Base):
    """One immutable, sealed snapshot of a dataset's rows."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        CheckConstraint("version > 0", name="version_positive"),
        CheckConstraint("training_rows > 0", name="training_rows_positive"),
        CheckConstraint("holdout_rows >= 0", name="holdout_rows_not_negative"),
    )

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    schema: Mapped[dict[str, Any]] = mapped_column(
        comment="public preprocessing bounds, categories, target, hold-out"
    )
    digest: Mapped[str] = mapped_column(String(64), comment="digest of the sealed content's manifest")
    training_rows: Mapped[int] = mapped_column(comment="public: the normaliser and the sampling rate use it")
    holdout_rows: Mapped[int]
    manifest_id: Mapped[str] = mapped_column(String(80), unique=True)
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary, comment="data key, wrapped by the vault")
    # How well rows compress is computed from them: for the operator of the storage, and shown to nobody.
    stored_bytes: Mapped[int]
    created_by: Mapped[str] = mapped_column(ForeignKey("principals.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
