"""Every authorisation decision that was made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now


class DecisionRecord(Base):
    """One decision: the request as evaluated, what came out, and which policies determined it."""

    __tablename__ = "decisions"
    __table_args__ = (CheckConstraint("result IN ('allow', 'deny')", name="result_known"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    principal: Mapped[str] = mapped_column(
        String(128), index=True, comment="'user:alice', 'service:ci', 'job:job_…'"
    )
    action: Mapped[str] = mapped_column(String(64), index=True)
    resource: Mapped[str] = mapped_column(String(160), index=True, comment="'dataset:ds_…', 'job:job_…', …")
    project: Mapped[str | None] = mapped_column(String(63), index=True)
    result: Mapped[str] = mapped_column(String(8), index=True)
    reason: Mapped[str] = mapped_column(
        String(64), comment="reason code: id of the determining policy, or 'no_policy_permits'"
    )
    policies: Mapped[list[str]] = mapped_column(comment="@id of the determining policies")
    errors: Mapped[list[str]] = mapped_column(comment="evaluation errors; any error denies")
    request: Mapped[dict[str, Any]] = mapped_column(comment="attributes and context that were evaluated")
    policy_hash: Mapped[str] = mapped_column(String(64))
    schema_hash: Mapped[str] = mapped_column(String(64))
    latency_us: Mapped[int]
