"""Holding a part of a dataset's budget for a job, and giving back what it did not spend."""

from __future__ import annotations

import math
from decimal import Decimal

from sqlalchemy.orm import Session

from secure_train.audit import Event
from secure_train.db import new_id, now
from secure_train.db.tables import BudgetReservation, Job
from secure_train.db.trail import Trail
from secure_train.ledger.accounts import HELD, SETTLED, available, lock_dataset, lock_reservation
from secure_train.ledger.errors import BudgetExceeded, LedgerError
from secure_train.ledger.exact import difference, exact, rounded_down


def reserve(session: Session, trail: Trail, job: Job, epsilon: float, delta: float) -> BudgetReservation:
    """Hold (ε, δ) of the budget of the job's dataset, in the caller's transaction.

    Raises:
        BudgetExceeded: less than that is available; the message says what would fit.
        LedgerError: ε or δ is not positive and finite, or the job has a reservation already.
    """
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not (math.isfinite(value) and value > 0):
            raise LedgerError(f"{name}: {value!r} is not a positive number")
    if session.get(BudgetReservation, job.id) is not None:
        raise LedgerError(f"the job {job.id} has a reservation; `reopen` takes it up again")
    _require(session, job, exact(epsilon), exact(delta))
    reservation = BudgetReservation(
        job_id=job.id,
        dataset_id=job.dataset_id,
        epsilon=epsilon,
        delta=delta,
        spent_epsilon=0.0,
        spent_delta=0.0,
        state=HELD,
        created_at=now(),
    )
    session.add(reservation)
    session.flush()
    _record(session, trail, job, "budget.reserved", epsilon=epsilon, delta=delta)
    return reservation


def settle(session: Session, trail: Trail, job: Job) -> BudgetReservation:
    """End the job's reservation: from now on only what was spent counts. Settling again changes nothing.

    Raises:
        NoReservation: the job has none.
    """
    lock_dataset(session, job.dataset_id)
    reservation = lock_reservation(session, job)
    if reservation.state == SETTLED:
        return reservation
    reservation.state, reservation.settled_at = SETTLED, now()
    session.flush()
    _record(
        session,
        trail,
        job,
        "budget.settled",
        spent_epsilon=reservation.spent_epsilon,
        spent_delta=reservation.spent_delta,
        returned_epsilon=_unspent(reservation.epsilon, reservation.spent_epsilon),
        returned_delta=_unspent(reservation.delta, reservation.spent_delta),
    )
    return reservation


def reopen(session: Session, trail: Trail, job: Job) -> BudgetReservation:
    """Hold again what a settled job had not spent, so that it can go on. If it is held, nothing changes.

    Raises:
        BudgetExceeded: others have taken it since.
        NoReservation: the job has none.
    """
    lock_dataset(session, job.dataset_id)
    reservation = lock_reservation(session, job)
    if reservation.state == HELD:
        return reservation
    epsilon = difference(exact(reservation.epsilon), exact(reservation.spent_epsilon))
    delta = difference(exact(reservation.delta), exact(reservation.spent_delta))
    _require(session, job, epsilon, delta)
    reservation.state, reservation.settled_at = HELD, None
    session.flush()
    _record(session, trail, job, "budget.reopened", epsilon=float(epsilon), delta=float(delta))
    return reservation


def _require(session: Session, job: Job, epsilon: Decimal, delta: Decimal) -> None:
    dataset = lock_dataset(session, job.dataset_id)
    left = available(session, dataset)
    if epsilon <= left.epsilon and delta <= left.delta:
        return
    fits_epsilon, fits_delta = (max(0.0, rounded_down(value)) for value in (left.epsilon, left.delta))
    if fits_epsilon > 0 and fits_delta > 0:
        remedy = f"privacy.epsilon up to {fits_epsilon!r} with privacy.delta up to {fits_delta!r} would fit"
    else:
        remedy = "nothing is left unless a running job ends and returns what it did not spend"
    raise BudgetExceeded(
        f"the job needs epsilon {float(epsilon):g} and delta {float(delta):g} of the budget of dataset "
        f"{dataset.name!r}, where epsilon {fits_epsilon:g} and delta {fits_delta:g} are available: {remedy}",
        fits_epsilon,
        fits_delta,
    )


def _unspent(held: float, spent: float) -> float:
    return rounded_down(difference(exact(held), exact(spent)))


def _record(session: Session, trail: Trail, job: Job, kind: str, **data: float) -> None:
    event = Event(
        kind,
        "system",
        f"dataset:{job.dataset_id}",
        {"job": job.id, **data},
        new_id("evt"),
        project=job.project_id,
    )
    trail.append(session, event)
