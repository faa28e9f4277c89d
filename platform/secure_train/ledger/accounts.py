"""Reading the ledger: locks, reservations, charges, and what there is room for."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import BudgetAllocation, BudgetCharge, BudgetReservation, Dataset, Job
from secure_train.ledger.errors import NoReservation
from secure_train.ledger.events import events_from_json
from secure_train.ledger.room import Limit, Room
from secure_train.ledger.rules import RULES, Claim

TRAINING, EVALUATION = "training", "evaluation"
HELD, SETTLED = "held", "settled"


def lock_dataset(session: Session, dataset_id: str) -> Dataset:
    """Return the dataset's row as it is now, locked against others that would reserve from its budget.

    On SQLite the transaction already holds the one write lock.
    """
    query = select(Dataset).where(Dataset.id == dataset_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()


def lock_reservation(session: Session, job: Job) -> BudgetReservation:
    """Return the job's reservation as it is now, locked.

    Raises:
        NoReservation: the job never reserved anything.
    """
    query = select(BudgetReservation).where(BudgetReservation.job_id == job.id).with_for_update()
    row = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NoReservation(f"the job {job.id} has reserved no budget")
    return row


def planned_claim(row: BudgetReservation) -> Claim:
    """Return all that a job may come to."""
    return Claim(events_from_json(row.events), row.epsilon, row.delta)


def spent_claim(row: BudgetReservation) -> Claim:
    """Return what a job has been charged."""
    return Claim(events_from_json(row.spent_events), row.spent_epsilon, row.spent_delta)


def dataset_limit(session: Session, dataset: Dataset, *, without: str | None = None) -> Limit:
    """Return the limit on all jobs on a dataset; `without` leaves a job out."""
    rows = [row for row, _ in _reservations(session, dataset) if row.job_id != without]
    return _limit(dataset, f"the budget of dataset {dataset.name!r}", dataset.budget_epsilon, rows)


def allocation_limit(
    session: Session, dataset: Dataset, project_id: str, *, without: str | None = None
) -> Limit | None:
    """Return the limit on a project's jobs on a dataset; None for the dataset's own, if it has no part set.

    Another project without a part of its own has none: ε 0.
    """
    key = (dataset.id, project_id)
    allocation = session.get(BudgetAllocation, key, populate_existing=True)
    if allocation is None and project_id == dataset.project_id:
        return None
    rows = [
        row
        for row, project in _reservations(session, dataset)
        if project == project_id and row.job_id != without
    ]
    name = f"the part of project {project_id!r} in the budget of dataset {dataset.name!r}"
    return _limit(dataset, name, 0.0 if allocation is None else allocation.epsilon, rows)


def room(session: Session, dataset: Dataset, project_id: str, *, without: str | None = None) -> Room:
    """Return what a job of a project has to fit into."""
    own = allocation_limit(session, dataset, project_id, without=without)
    whole = dataset_limit(session, dataset, without=without)
    return Room((whole,) if own is None else (own, whole))


def allocations(session: Session, dataset: Dataset) -> list[BudgetAllocation]:
    """Return the projects' parts of a dataset's budget, by project."""
    query = select(BudgetAllocation).where(BudgetAllocation.dataset_id == dataset.id)
    query = query.order_by(BudgetAllocation.project_id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def training_charges(session: Session, job: Job, noise_epoch: int | None = None) -> list[BudgetCharge]:
    """Return the job's charges for training steps, of one noise epoch or of all."""
    query = select(BudgetCharge).where(BudgetCharge.job_id == job.id, BudgetCharge.kind == TRAINING)
    if noise_epoch is not None:
        query = query.where(BudgetCharge.noise_epoch == noise_epoch)
    return list(session.scalars(query.order_by(BudgetCharge.noise_epoch, BudgetCharge.first_step)))


def evaluation_charges(session: Session, job: Job) -> list[BudgetCharge]:
    """Return the job's charges for evaluations."""
    query = select(BudgetCharge).where(BudgetCharge.job_id == job.id, BudgetCharge.kind == EVALUATION)
    return list(session.scalars(query.order_by(BudgetCharge.noise_epoch, BudgetCharge.first_step)))


def steps_charged(session: Session, job: Job, before_epoch: int | None = None) -> int:
    """Return how many training steps the job has been charged: in all, or in noise epochs before one."""
    charges = training_charges(session, job)
    return sum(
        charge.last_step - charge.first_step
        for charge in charges
        if before_epoch is None or charge.noise_epoch < before_epoch
    )


def _reservations(session: Session, dataset: Dataset) -> list[tuple[BudgetReservation, str]]:
    query = (
        select(BudgetReservation, Job.project_id)
        .join(Job, Job.id == BudgetReservation.job_id)
        .where(BudgetReservation.dataset_id == dataset.id)
    )
    return [
        (row, project) for row, project in session.execute(query.execution_options(populate_existing=True))
    ]


def _limit(dataset: Dataset, name: str, epsilon: float, rows: list[BudgetReservation]) -> Limit:
    rule = RULES[dataset.composition]
    spent = tuple(rule.counted(planned_claim(row), spent_claim(row)) for row in rows)
    claims = tuple(
        planned_claim(row) if row.state == HELD else counted for row, counted in zip(rows, spent, strict=True)
    )
    return Limit(name, epsilon, dataset.budget_delta, rule, claims, spent)
