"""Holding a part of a dataset's budget for a job, and giving back what it did not spend."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sqlalchemy.orm import Session

from secure_train.audit import Event, JsonValue
from secure_train.db import new_id, now
from secure_train.db.tables import BudgetReservation, Job
from secure_train.db.trail import Trail
from secure_train.dp.composition import DpEvent, merged
from secure_train.ledger.accounts import (
    HELD,
    SETTLED,
    lock_dataset,
    lock_reservation,
    planned_claim,
    room,
)
from secure_train.ledger.errors import BudgetExceeded, LedgerError
from secure_train.ledger.events import events_to_json
from secure_train.ledger.exact import difference, exact, rounded_down
from secure_train.ledger.room import shortage
from secure_train.ledger.rules import Claim

WAIT = "wait until running jobs end and return what they did not spend, or ask the owner for a larger budget"


def reserve(session: Session, trail: Trail, job: Job, events: Iterable[DpEvent]) -> BudgetReservation:
    """Hold room for all that a job may release, in the caller's transaction.

    By itself, at the job's δ, all of it comes to at most the job's ε.

    Raises:
        BudgetExceeded: there is not enough room.
        LedgerError: ε or δ is not positive and finite, the job releases nothing, or has a reservation.
    """
    for name, value in (("epsilon", job.epsilon), ("delta", job.delta)):
        if not (math.isfinite(value) and value > 0):
            raise LedgerError(f"{name}: {value!r} is not a positive number")
    claim = Claim(merged(events), job.epsilon, job.delta)
    if not claim.events:
        raise LedgerError(f"the job {job.id} releases nothing: there is nothing to reserve")
    if session.get(BudgetReservation, job.id) is not None:
        raise LedgerError(f"the job {job.id} has a reservation; `reopen` takes it up again")
    _require(session, job, claim)
    reservation = BudgetReservation(
        job_id=job.id,
        dataset_id=job.dataset_id,
        events=events_to_json(claim.events),
        spent_events=[],
        epsilon=job.epsilon,
        delta=job.delta,
        spent_epsilon=0.0,
        spent_delta=0.0,
        state=HELD,
        created_at=now(),
    )
    session.add(reservation)
    session.flush()
    data: dict[str, JsonValue] = {"epsilon": job.epsilon, "delta": job.delta}
    _record(session, trail, job, "budget.reserved", {**data, "events": reservation.events})
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
    data: dict[str, JsonValue] = {
        "spent_events": reservation.spent_events,
        "spent_epsilon": reservation.spent_epsilon,
        "spent_delta": reservation.spent_delta,
        "returned_epsilon": _unspent(reservation.epsilon, reservation.spent_epsilon),
        "returned_delta": _unspent(reservation.delta, reservation.spent_delta),
    }
    _record(session, trail, job, "budget.settled", data)
    return reservation


def reopen(session: Session, trail: Trail, job: Job) -> BudgetReservation:
    """Hold again all that a settled job may release, so that it can go on. If it is held, nothing changes.

    Raises:
        BudgetExceeded: others have taken the room since.
        NoReservation: the job has none.
    """
    lock_dataset(session, job.dataset_id)
    reservation = lock_reservation(session, job)
    if reservation.state == HELD:
        return reservation
    _require(session, job, planned_claim(reservation))
    reservation.state, reservation.settled_at = HELD, None
    session.flush()
    data: dict[str, JsonValue] = {
        "epsilon": _unspent(reservation.epsilon, reservation.spent_epsilon),
        "delta": _unspent(reservation.delta, reservation.spent_delta),
    }
    _record(session, trail, job, "budget.reopened", data)
    return reservation


def _require(session: Session, job: Job, claim: Claim) -> None:
    dataset = lock_dataset(session, job.dataset_id)
    found = room(session, dataset, job.project_id, without=job.id)
    refusing = found.refusing(claim)
    if refusing is not None:
        raise BudgetExceeded(shortage(refusing, claim), WAIT, found)


def _unspent(held: float, spent: float) -> float:
    return rounded_down(difference(exact(held), exact(spent)))


def _record(session: Session, trail: Trail, job: Job, kind: str, data: dict[str, JsonValue]) -> None:
    event = Event(
        kind,
        "system",
        f"dataset:{job.dataset_id}",
        {"job": job.id, **data},
        new_id("evt"),
        project=job.project_id,
    )
    trail.append(session, event)
