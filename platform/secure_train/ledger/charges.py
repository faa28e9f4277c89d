"""Charging a job for what its workers are about to compute from private rows.

Each charge is a typed DP event. By itself, at its own δ, a job comes to what the accountant composes of all
its charged steps, plus the pure ε of its evaluations; a dataset's total is composed of the events of all
jobs. A step is charged once in a noise epoch, however often it runs there, for it then releases the identical
value: its sample and its noise are functions of (job key, rank, noise epoch, step).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from sqlalchemy.orm import Session

from secure_train.audit import Event, JsonValue
from secure_train.db import new_id
from secure_train.db.tables import BudgetCharge, BudgetReservation, Job
from secure_train.db.trail import Trail
from secure_train.dp import Mechanism
from secure_train.dp import epsilon as composed_epsilon
from secure_train.dp.composition import DpEvent, PoissonGaussian, Pure, merged, renyi_curve
from secure_train.ledger.accounts import (
    EVALUATION,
    HELD,
    TRAINING,
    evaluation_charges,
    lock_reservation,
    steps_charged,
    training_charges,
)
from secure_train.ledger.errors import ChargeRefused
from secure_train.ledger.events import event_from_json, event_to_json, events_from_json, events_to_json
from secure_train.ledger.exact import exact, rounded_up, total
from secure_train.wire.worker import Charged


def training_epsilon(job: Job, steps: int) -> float:
    """Return the ε of `steps` steps of the job's mechanism at the job's δ (add-or-remove-one record).

    Cached: call it before a transaction where you can, for the first call may take a second.
    """
    return composed_epsilon(Mechanism(job.noise_multiplier, job.sampling_rate, steps), job.delta)


def charge_training(
    session: Session, trail: Trail, job: Job, noise_epoch: int, first: int, last: int
) -> Charged:
    """Charge steps `first` ≤ s < `last` of a noise epoch, but for those that were charged in it before.

    Raises:
        ChargeRefused: another noise epoch, a settled reservation, more steps in all than the job's T, or more
            ε or δ than it holds. Nothing is charged.
        NoReservation: the job has none.
    """
    reservation = _open(session, job, noise_epoch)
    if not 0 <= first <= last:
        raise ChargeRefused(f"steps {first} to {last}: not a range of steps")
    covered = [
        (charge.first_step, charge.last_step) for charge in training_charges(session, job, noise_epoch)
    ]
    fresh = uncovered(first, last, covered)
    before = steps_charged(session, job)
    steps = before + sum(end - start for start, end in fresh)
    if steps > job.steps:
        raise ChargeRefused(
            f"steps {first} to {last} of noise epoch {noise_epoch}: {steps} steps would have been charged in "
            f"all, and the job was calibrated for {job.steps}"
        )
    if fresh:
        charges = [_training_charge(job, noise_epoch, start, end) for start, end in fresh]
        known = [*training_charges(session, job), *evaluation_charges(session, job)]
        _spend(reservation, job, [*known, *charges])
        session.add_all(charges)
        session.flush()
        _record(session, trail, job, reservation, charges)
    return Charged(epsilon=reservation.spent_epsilon, delta=reservation.spent_delta, steps_charged=steps)


def charge_evaluation(
    session: Session, trail: Trail, job: Job, noise_epoch: int, step: int, epsilon: float
) -> Charged:
    """Charge the release of noised held-out metrics at a step: pure ε, once for a step of a noise epoch.

    Raises:
        ChargeRefused: another noise epoch, a settled reservation, more than the job holds, or another ε than
            was charged for this step before. Nothing is charged.
        NoReservation: the job has none.
    """
    reservation = _open(session, job, noise_epoch)
    if not (math.isfinite(epsilon) and epsilon >= 0 and step >= 0):
        raise ChargeRefused(
            f"evaluation at step {step} for epsilon {epsilon!r}: both must be 0 or more, and finite"
        )
    earlier = evaluation_charges(session, job)
    steps = steps_charged(session, job)
    same = [charge for charge in earlier if (charge.noise_epoch, charge.first_step) == (noise_epoch, step)]
    event = Pure(epsilon)
    if same and event_from_json(same[0].event) != event:
        raise ChargeRefused(
            f"the evaluation at step {step} was charged {same[0].event}; epsilon {epsilon!r} is another"
        )
    if not same:
        _leave_room_for_training(reservation, job, [*(_pure(charge) for charge in earlier), epsilon])
        charge = _charge(job, EVALUATION, noise_epoch, step, step, event)
        _spend(reservation, job, [*training_charges(session, job), *earlier, charge])
        session.add(charge)
        session.flush()
        _record(session, trail, job, reservation, [charge])
    return Charged(epsilon=reservation.spent_epsilon, delta=reservation.spent_delta, steps_charged=steps)


def uncovered(first: int, last: int, covered: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the parts of [first, last) that none of the half-open intervals covers, in order."""
    parts, at = [], first
    for start, end in sorted(covered):
        if start > at and at < last:
            parts.append((at, min(start, last)))
        at = max(at, end)
    if at < last:
        parts.append((at, last))
    return parts


def _open(session: Session, job: Job, noise_epoch: int) -> BudgetReservation:
    reservation = lock_reservation(session, job)
    session.refresh(job, ["noise_epoch"])
    if reservation.state != HELD:
        raise ChargeRefused(f"the budget of {job.id} is settled: the job has ended")
    if noise_epoch != job.noise_epoch:
        raise ChargeRefused(f"noise epoch {noise_epoch} of {job.id}: it is in noise epoch {job.noise_epoch}")
    return reservation


def _training_charge(job: Job, noise_epoch: int, first: int, last: int) -> BudgetCharge:
    event = PoissonGaussian(job.noise_multiplier, job.sampling_rate, last - first)
    return _charge(job, TRAINING, noise_epoch, first, last, event)


def _charge(job: Job, kind: str, noise_epoch: int, first: int, last: int, event: DpEvent) -> BudgetCharge:
    return BudgetCharge(
        id=new_id("chg"),
        job_id=job.id,
        kind=kind,
        noise_epoch=noise_epoch,
        first_step=first,
        last_step=last,
        event=event_to_json(event),
    )


def _pure(charge: BudgetCharge) -> float:
    event = event_from_json(charge.event)
    return event.epsilon if isinstance(event, Pure) else 0.0


def _leave_room_for_training(reservation: BudgetReservation, job: Job, evaluations: Iterable[float]) -> None:
    """Refuse evaluations that the whole training would not fit beside: under plain addition over jobs it
    counts whole from its first step, for when it stops may depend on what it released."""
    whole = total([training_epsilon(job, job.steps), *evaluations])
    if whole > exact(reservation.epsilon):
        raise ChargeRefused(
            f"{job.id} would release up to epsilon {float(whole):g} with its whole training, and has "
            f"reserved epsilon {reservation.epsilon:g}"
        )


def _spend(reservation: BudgetReservation, job: Job, charges: Iterable[BudgetCharge]) -> None:
    """Raise what the reservation has spent to the cost of everything charged. Never lowers it.

    Two bounds hold: the job by itself within its own (ε, δ), and its events within those it holds, at every
    order, so that what is charged never exceeds what the dataset's filter admitted.
    """
    events = [event_from_json(charge.event) for charge in charges]
    steps = sum(event.steps for event in events if isinstance(event, PoissonGaussian))
    evaluations = [event.epsilon for event in events if isinstance(event, Pure)]
    epsilon = total([training_epsilon(job, steps), *evaluations])
    delta = job.delta if steps else 0.0
    if epsilon > exact(reservation.epsilon) or delta > reservation.delta:
        raise ChargeRefused(
            f"{job.id} would have spent epsilon {float(epsilon):g} and delta {delta:g}, and has reserved "
            f"epsilon {reservation.epsilon:g} and delta {reservation.delta:g}"
        )
    held = renyi_curve(events_from_json(reservation.events))
    spent = renyi_curve(events)
    if any(more > most for more, most in zip(spent, held, strict=True)):
        raise ChargeRefused(
            f"{job.id} would have released more than what it has reserved the budget for: "
            f"{events_to_json(merged(events))} against {reservation.events}"
        )
    reservation.spent_events = events_to_json(merged(events))
    # A finer grid can make the accountant's bound for more steps a hair smaller: spending stays monotone.
    reservation.spent_epsilon = max(reservation.spent_epsilon, rounded_up(epsilon))
    reservation.spent_delta = max(reservation.spent_delta, delta)


def _record(
    session: Session, trail: Trail, job: Job, reservation: BudgetReservation, charges: list[BudgetCharge]
) -> None:
    for charge in charges:
        data: dict[str, JsonValue] = {
            "job": job.id,
            "kind": charge.kind,
            "noise_epoch": charge.noise_epoch,
            "first_step": charge.first_step,
            "last_step": charge.last_step,
            "event": charge.event,
            "spent_epsilon": reservation.spent_epsilon,
            "spent_delta": reservation.spent_delta,
        }
        subject = f"dataset:{job.dataset_id}"
        trail.append(
            session,
            Event("budget.charged", f"job:{job.id}", subject, data, charge.id, project=job.project_id),
        )
