"""A dataset's budget as people see it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import BudgetChange, BudgetReservation, Dataset, Job
from secure_train.ledger.accounts import HELD, allocation_limit, allocations, dataset_limit
from secure_train.ledger.exact import difference, rounded_down, rounded_up
from secure_train.ledger.room import Limit
from secure_train.ledger.rules import replace_one_epsilon
from secure_train.wire.data import AllocationView, BudgetChangeView, BudgetLine, BudgetView


def budget(session: Session, dataset: Dataset) -> BudgetView:
    """Return the dataset's budget, who holds or spent it, and who changed it; oldest first."""
    limit = dataset_limit(session, dataset)
    used, charged, left = limit.used(), limit.charged(), limit.left()
    return BudgetView(
        dataset=dataset.id,
        name=dataset.name,
        project=dataset.project_id,
        composition="basic" if dataset.composition == "basic" else "rdp-filter",
        epsilon=dataset.budget_epsilon,
        delta=dataset.budget_delta,
        spent_epsilon=rounded_up(charged.epsilon),
        spent_delta=rounded_up(charged.delta),
        spent_epsilon_replace_one=replace_one_epsilon(limit.spent, limit.delta),
        reserved_epsilon=rounded_up(difference(used.epsilon, charged.epsilon)),
        reserved_delta=rounded_up(difference(used.delta, charged.delta)),
        available_epsilon=rounded_down(left.epsilon),
        available_delta=rounded_down(left.delta),
        allocations=[
            _allocation(part.project_id, allocation_limit(session, dataset, part.project_id))
            for part in allocations(session, dataset)
        ],
        lines=_lines(session, dataset),
        hidden_lines=0,
        changes=_changes(session, dataset),
        fit=None,
    )


def _allocation(project_id: str, limit: Limit | None) -> AllocationView:
    if limit is None:
        raise ValueError(f"{project_id} has no part")
    used, charged = limit.used(), limit.charged()
    return AllocationView(
        project=project_id,
        epsilon=limit.epsilon,
        spent_epsilon=rounded_up(charged.epsilon),
        reserved_epsilon=rounded_up(difference(used.epsilon, charged.epsilon)),
        available_epsilon=rounded_down(limit.left().epsilon),
    )


def _lines(session: Session, dataset: Dataset) -> list[BudgetLine]:
    query = (
        select(BudgetReservation, Job)
        .join(Job, Job.id == BudgetReservation.job_id)
        .where(BudgetReservation.dataset_id == dataset.id)
        .order_by(BudgetReservation.created_at, BudgetReservation.job_id)
    )
    return [
        BudgetLine.model_validate(
            {
                "job_id": job.id,
                "job_name": job.name,
                "project": job.project_id,
                "submitted_by": job.submitted_by,
                "purpose": job.purpose,
                "state": "held" if row.state == HELD else "settled",
                "epsilon": row.epsilon,
                "delta": row.delta,
                "events": row.events,
                "spent_epsilon": row.spent_epsilon,
                "spent_delta": row.spent_delta,
                "spent_events": row.spent_events,
                "created_at": row.created_at,
            }
        )
        for row, job in session.execute(query)
    ]


def _changes(session: Session, dataset: Dataset) -> list[BudgetChangeView]:
    query = select(BudgetChange).where(BudgetChange.dataset_id == dataset.id)
    return [
        BudgetChangeView(
            at=row.created_at,
            by=row.changed_by,
            project=row.project_id,
            epsilon_before=row.epsilon_before,
            epsilon_after=row.epsilon_after,
            reason=row.reason,
        )
        for row in session.scalars(query.order_by(BudgetChange.created_at, BudgetChange.id))
    ]
