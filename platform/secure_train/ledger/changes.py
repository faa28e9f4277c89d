"""Decisions of people about budgets: opened, raised, lowered, divided among projects. Each is on record.

δ and the rule of composition are fixed with the dataset: the bound on what has leaked is stated at that δ,
and holds however ε is changed in the light of what was released (``secure_train.dp.composition``).
"""

from __future__ import annotations

import math

from sqlalchemy.orm import Session

from secure_train.audit import Event
from secure_train.db import new_id, now
from secure_train.db.tables import BudgetAllocation, BudgetChange, Dataset
from secure_train.db.trail import Trail
from secure_train.ledger.accounts import allocation_limit, allocations, dataset_limit, lock_dataset
from secure_train.ledger.errors import BudgetChangeRefused
from secure_train.ledger.exact import exact, rounded_up
from secure_train.ledger.room import Limit


def open_budget(session: Session, dataset: Dataset) -> None:
    """Note the budget that a dataset is registered with; its registration is the audit event."""
    _note(session, dataset, None, None, dataset.budget_epsilon, "registered", dataset.owner_id)


def set_budget(
    session: Session, trail: Trail, dataset: Dataset, epsilon: float, reason: str, by: str
) -> None:
    """Set a dataset's ε, in the caller's transaction, which has authorised it. Setting it again is nothing.

    Raises:
        BudgetChangeRefused: not positive, less than what is spent and held, or than a project's part.
    """
    dataset = lock_dataset(session, dataset.id)
    before = dataset.budget_epsilon
    if epsilon == before:
        return
    _require_positive(epsilon)
    _require_used(dataset_limit(session, dataset), epsilon)
    for part in allocations(session, dataset):
        if part.epsilon > epsilon:
            raise BudgetChangeRefused(
                f"project {part.project_id!r} has a part of ε {part.epsilon:g} in the budget of "
                f"{dataset.name!r}: lower that first, or set at least ε {part.epsilon!r}"
            )
    dataset.budget_epsilon = epsilon
    session.flush()
    _record(session, trail, dataset, None, before, epsilon, reason, by)


def allocate(
    session: Session, trail: Trail, dataset: Dataset, project_id: str, epsilon: float, reason: str, by: str
) -> None:
    """Set a project's part of a dataset's budget, in the caller's transaction, which has authorised it.

    The project's jobs have to stay within it, and all jobs within the whole. Parts may add up to more than
    the whole: together, jobs come to less than the sum of what each project's come to.

    Raises:
        BudgetChangeRefused: more than the whole budget, less than what the project's jobs have spent and
            hold, or not a positive number.
    """
    dataset = lock_dataset(session, dataset.id)
    row = session.get(BudgetAllocation, (dataset.id, project_id), populate_existing=True)
    before = None if row is None else row.epsilon
    if epsilon == before:
        return
    _require_positive(epsilon)
    if epsilon > dataset.budget_epsilon:
        raise BudgetChangeRefused(
            f"the whole budget of {dataset.name!r} is ε {dataset.budget_epsilon:g}: a part of ε {epsilon:g} "
            "is more than that"
        )
    if row is None:
        row = BudgetAllocation(dataset_id=dataset.id, project_id=project_id, epsilon=epsilon)
        session.add(row)
    row.epsilon = epsilon
    session.flush()
    limit = allocation_limit(session, dataset, project_id)
    if limit is not None:
        _require_used(limit, epsilon)
    _record(session, trail, dataset, project_id, before, epsilon, reason, by)


def _require_positive(epsilon: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise BudgetChangeRefused(f"epsilon: {epsilon!r} is not a positive number")


def _require_used(limit: Limit, epsilon: float) -> None:
    used = limit.used().epsilon
    if used > exact(epsilon):
        raise BudgetChangeRefused(
            f"jobs have spent or hold ε {rounded_up(used)!r} of {limit.name}: it cannot be set to "
            f"{epsilon!r}. What is spent is spent; cancel jobs that hold some, or set at least that"
        )


def _record(
    session: Session,
    trail: Trail,
    dataset: Dataset,
    project_id: str | None,
    before: float | None,
    after: float,
    reason: str,
    by: str,
) -> None:
    change = _note(session, dataset, project_id, before, after, reason, by)
    data = {
        "project": project_id,
        "epsilon_before": before,
        "epsilon_after": after,
        "delta": dataset.budget_delta,
        "reason": reason,
    }
    subject = f"dataset:{dataset.id}"
    trail.append(session, Event("budget.changed", by, subject, data, change.id, project=dataset.project_id))


def _note(
    session: Session,
    dataset: Dataset,
    project_id: str | None,
    before: float | None,
    after: float,
    reason: str,
    by: str,
) -> BudgetChange:
    change = BudgetChange(
        id=new_id("bch"),
        dataset_id=dataset.id,
        project_id=project_id,
        epsilon_before=before,
        epsilon_after=after,
        reason=reason,
        changed_by=by,
        created_at=now(),
    )
    session.add(change)
    session.flush()
    return change
