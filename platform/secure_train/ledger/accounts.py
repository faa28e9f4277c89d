"""Reading the ledger: locks, reservations, charges, and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import BudgetCharge, BudgetReservation, Dataset, Job
from secure_train.ledger.errors import NoReservation
from secure_train.ledger.exact import difference, exact, rounded_down, total
from secure_train.wire.data import BudgetLine, BudgetView

TRAINING, EVALUATION = "training", "evaluation"
HELD, SETTLED = "held", "settled"


@dataclass(frozen=True)
class Available:
    """What of a dataset's budget is neither spent nor held. Negative if the budget was lowered below that."""

    epsilon: Decimal
    delta: Decimal


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


def available(session: Session, dataset: Dataset) -> Available:
    """Compute what is left: the budget, less what is held, less what settled jobs have spent.

    Basic composition over jobs: ε and δ add up (Dwork and Roth 2014, theorem 3.16).
    """
    query = select(BudgetReservation).where(BudgetReservation.dataset_id == dataset.id)
    rows = list(session.scalars(query.execution_options(populate_existing=True)))
    epsilon = total(row.epsilon if row.state == HELD else row.spent_epsilon for row in rows)
    delta = total(row.delta if row.state == HELD else row.spent_delta for row in rows)
    return Available(
        difference(exact(dataset.budget_epsilon), epsilon), difference(exact(dataset.budget_delta), delta)
    )


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


def budget(session: Session, dataset: Dataset) -> BudgetView:
    """Return the dataset's budget and who holds or spent it, oldest first."""
    query = (
        select(BudgetReservation, Job)
        .join(Job, Job.id == BudgetReservation.job_id)
        .where(BudgetReservation.dataset_id == dataset.id)
        .order_by(BudgetReservation.created_at, BudgetReservation.job_id)
    )
    pairs = list(session.execute(query))
    held = [row for row, _ in pairs if row.state == HELD]
    left = available(session, dataset)
    return BudgetView(
        dataset=dataset.id,
        epsilon=dataset.budget_epsilon,
        delta=dataset.budget_delta,
        spent_epsilon=float(total(row.spent_epsilon for row, _ in pairs)),
        spent_delta=float(total(row.spent_delta for row, _ in pairs)),
        reserved_epsilon=float(
            difference(total(r.epsilon for r in held), total(r.spent_epsilon for r in held))
        ),
        reserved_delta=float(difference(total(r.delta for r in held), total(r.spent_delta for r in held))),
        available_epsilon=rounded_down(left.epsilon),
        available_delta=rounded_down(left.delta),
        lines=[
            BudgetLine(
                job_id=job.id,
                job_name=job.name,
                submitted_by=job.submitted_by,
                state="held" if row.state == HELD else "settled",
                epsilon=row.epsilon,
                delta=row.delta,
                spent_epsilon=row.spent_epsilon,
                spent_delta=row.spent_delta,
                created_at=row.created_at,
            )
            for row, job in pairs
        ],
    )
