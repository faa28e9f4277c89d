"""Who may ask: projects, principals, their memberships and API tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now


class Project(Base):
    """A group of people, datasets, jobs and models."""

    __tablename__ = "projects"
    __table_args__ = (CheckConstraint("max_running_jobs > 0", name="max_running_jobs_positive"),)

    id: Mapped[str] = mapped_column(String(63), primary_key=True, comment="DNS-label-like name")
    max_running_jobs: Mapped[int] = mapped_column(
        default=1, comment="jobs of this project that may run at once"
    )
    created_at: Mapped[datetime] = mapped_column(default=now)


class Principal(Base):
    """A person or a service. Attributes that policy reads come from this row and from nowhere else."""

    __tablename__ = "principals"
    __table_args__ = (
        CheckConstraint("kind IN ('user', 'service')", name="kind_known"),
        CheckConstraint("clearance BETWEEN 0 AND 3", name="clearance_range"),
    )

    id: Mapped[str] = mapped_column(String(128), primary_key=True, comment="'user:alice' or 'service:ci'")
    kind: Mapped[str] = mapped_column(String(16))
    department: Mapped[str] = mapped_column(String(64), default="")
    clearance: Mapped[int] = mapped_column(
        default=0, comment="0 public, 1 internal, 2 confidential, 3 restricted"
    )
    roles: Mapped[list[str]] = mapped_column(comment="names of Role in secure_train.identity")
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ProjectMember(Base):
    """A principal belongs to a project."""

    __tablename__ = "project_members"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), primary_key=True, index=True)


class ApiToken(Base):
    """A bearer token. The secret itself is shown once and never stored."""

    __tablename__ = "api_tokens"
    __table_args__ = (CheckConstraint("length(sha256) = 32", name="sha256_length"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, comment="SHA-256 of the token's text")
    label: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
