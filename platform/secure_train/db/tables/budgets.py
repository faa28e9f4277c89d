"""Privacy budgets: what jobs hold and what they have been charged."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from secure_train.db.base import Base, now


class BudgetReservation(Base):
    """What one job may spend of one dataset's budget, and what it has been charged so far.

    While ``held``, the whole reservation counts against the budget; once ``settled``, only what was spent.
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
    epsilon: Mapped[float]
    delta: Mapped[float]
    spent_epsilon: Mapped[float] = mapped_column(default=0.0)
    spent_delta: Mapped[float] = mapped_column(default=0.0)
    state: Mapped[str] = mapped_column(String(8), default="held")
    created_at: Mapped[datetime] = mapped_column(default=now)
    settled_at: Mapped[datetime | None]


class BudgetCharge(Base):
    """One charge, durable before what it pays for can escape.

    ``training``: steps ``first_step`` ≤ s < ``last_step`` of noise epoch ``noise_epoch``. ``evaluation``: the
    release of noised held-out metrics at ``first_step``, which costs ``epsilon`` on its own.
    """

    __tablename__ = "budget_charges"
    __table_args__ = (
        UniqueConstraint("job_id", "kind", "noise_epoch", "first_step"),
        CheckConstraint("kind IN ('training', 'evaluation')", name="kind_known"),
        CheckConstraint("first_step >= 0 AND last_step >= first_step", name="steps_ordered"),
        CheckConstraint("epsilon >= 0", name="epsilon_not_negative"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("budget_reservations.job_id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    noise_epoch: Mapped[int]
    first_step: Mapped[int]
    last_step: Mapped[int] = mapped_column(comment="exclusive")
    epsilon: Mapped[float] = mapped_column(
        default=0.0, comment="own cost; training is composed over all steps"
    )
    created_at: Mapped[datetime] = mapped_column(default=now)
