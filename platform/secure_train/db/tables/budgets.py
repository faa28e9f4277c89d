"""Privacy budgets: what jobs hold, what they have been charged, and who decided what may be spent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now


class BudgetReservation(Base):
    """What one job may spend of one dataset's budget, and what it has been charged so far.

    Both as typed DP events (``secure_train.ledger.events``), from which the dataset's total is composed, and
    as the job's own (ε, δ). While ``held``, all of ``events`` counts against the budget; once ``settled``,
    only ``spent_events``.
    """

    __tablename__ = "budget_reservations"
    __table_args__ = (
        CheckConstraint("state IN ('held', 'settled')", name="state_known"),
        CheckConstraint("epsilon > 0 AND delta > 0", name="reserved_positive"),
        CheckConstraint("spent_epsilon >= 0 AND spent_epsilon <= epsilon", name="spent_epsilon_within"),
        CheckConstraint("spent_delta >= 0 AND spent_delta <= delta", name="spent_delta_within"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    events: Mapped[list[dict[str, Any]]] = mapped_column(JSON, comment="all that the job may release")
    spent_events: Mapped[list[dict[str, Any]]] = mapped_column(JSON, comment="sum of the job's charges")
    epsilon: Mapped[float] = mapped_column(comment="of the job by itself, at its own delta")
    delta: Mapped[float]
    spent_epsilon: Mapped[float] = mapped_column(default=0.0)
    spent_delta: Mapped[float] = mapped_column(default=0.0)
    state: Mapped[str] = mapped_column(String(8), default="held")
    created_at: Mapped[datetime] = mapped_column(default=now)
    settled_at: Mapped[datetime | None]


class BudgetCharge(Base):
    """One charge, durable before what it pays for can escape.

    ``training``: steps ``first_step`` ≤ s < ``last_step`` of noise epoch ``noise_epoch``. ``evaluation``: the
    release of noised held-out metrics at ``first_step``.
    """

    __tablename__ = "budget_charges"
    __table_args__ = (
        UniqueConstraint("job_id", "kind", "noise_epoch", "first_step"),
        CheckConstraint("kind IN ('training', 'evaluation')", name="kind_known"),
        CheckConstraint("first_step >= 0 AND last_step >= first_step", name="steps_ordered"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("budget_reservations.job_id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    noise_epoch: Mapped[int]
    first_step: Mapped[int]
    last_step: Mapped[int] = mapped_column(comment="exclusive")
    event: Mapped[dict[str, Any]] = mapped_column(comment="the typed DP event that was charged")
    created_at: Mapped[datetime] = mapped_column(default=now)


class BudgetAllocation(Base):
    """A project's part of a dataset's budget, within which its jobs have to stay.

    Another project than the dataset's own may use the dataset only if it has one.
    """

    __tablename__ = "budget_allocations"
    __table_args__ = (CheckConstraint("epsilon > 0", name="epsilon_positive"),)

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True, index=True)
    epsilon: Mapped[float] = mapped_column(comment="at the dataset's delta")


class BudgetChange(Base):
    """A decision of a person about a dataset's budget, or about a project's part of it."""

    __tablename__ = "budget_changes"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    project_id: Mapped[str | None] = mapped_column(
        ForeignKey("projects.id"), comment="None: the whole budget"
    )
    epsilon_before: Mapped[float | None] = mapped_column(comment="None: there was none")
    epsilon_after: Mapped[float]
    reason: Mapped[str] = mapped_column(Text)
    changed_by: Mapped[str] = mapped_column(ForeignKey("principals.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
