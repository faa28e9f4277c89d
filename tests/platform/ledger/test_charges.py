from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import dp, ledger
from secure_train.audit import Record
from secure_train.db.tables import BudgetCharge, BudgetReservation, Job
from secure_train.db.trail import Trail
from secure_train.ledger import ChargeRefused, NoReservation

Events = Callable[..., list[Record]]
STEPS = 8


@pytest.fixture
def job(desk: Any, audit: Trail) -> Job:
    """A job with ε = 1.3 reserved: 0.73 for its steps, and evaluations."""
    made: Job = desk.submit(audit, desk.dataset(3.0), 1.3, evaluation=0.55)
    return made


@pytest.fixture
def charge(desk: Any, audit: Trail, job: Job) -> Callable[..., Any]:
    """Charge the job in its own transaction: (noise epoch, first, last) or, with epsilon, (epoch, step)."""

    def run(*where: int, epsilon: float | None = None) -> Any:
        with desk.database.write() as session:
            row = session.get_one(Job, job.id)
            if epsilon is None:
                return ledger.charge_training(session, audit, row, *where)
            return ledger.charge_evaluation(session, audit, row, *where, epsilon)

    return run


def _cost(steps: int) -> float:
    return dp.epsilon(dp.Mechanism(2.0, 0.1, steps), 1e-5)


def _epoch(desk: Any, job: Job, noise_epoch: int) -> None:
    with desk.database.write() as session:
        session.get_one(Job, job.id).noise_epoch = noise_epoch


def test_a_charge_costs_what_the_accountant_says(charge: Any, job: Job, events: Events) -> None:
    first, second = charge(0, 0, 3), charge(0, 3, 5)
    assert (first.steps_charged, first.epsilon, first.delta) == (3, _cost(3), 1e-5)
    assert (second.steps_charged, second.epsilon, second.delta) == (5, _cost(5), 1e-5)
    recorded = events(type="budget.charged")
    assert [(e.data["first_step"], e.data["last_step"]) for e in recorded] == [(0, 3), (3, 5)]
    assert recorded[1].data["spent_epsilon"] == second.epsilon
    assert recorded[1].actor == f"job:{job.id}"


def test_steps_that_run_again_in_their_noise_epoch_are_not_charged_again(charge: Any, events: Events) -> None:
    first = charge(0, 0, 4)
    assert charge(0, 0, 4) == first
    assert charge(0, 1, 3) == first
    overlapping = charge(0, 2, 6)
    assert overlapping.steps_charged == 6
    assert [(e.data["first_step"], e.data["last_step"]) for e in events(type="budget.charged")] == [
        (0, 4),
        (4, 6),
    ]


def test_gaps_are_charged_and_only_they(charge: Any, events: Events) -> None:
    charge(0, 1, 2)
    charge(0, 4, 5)
    assert charge(0, 0, 6).steps_charged == 6
    ranges = [(e.data["first_step"], e.data["last_step"]) for e in events(type="budget.charged")]
    assert ranges == [(1, 2), (4, 5), (0, 1), (2, 4), (5, 6)]


def test_fresh_noise_is_charged_anew(desk: Any, job: Job, charge: Any) -> None:
    charge(0, 0, 4)
    _epoch(desk, job, 1)
    assert charge(1, 2, 4).steps_charged == 6
    with desk.database.read() as session:
        row = session.get_one(Job, job.id)
        assert ledger.steps_charged(session, row) == 6
        assert ledger.steps_charged(session, row, before_epoch=1) == 4
        assert ledger.steps_charged(session, row, before_epoch=0) == 0


@pytest.mark.parametrize("epoch", [0, 2])
def test_another_noise_epoch_than_the_jobs_is_refused(desk: Any, job: Job, charge: Any, epoch: int) -> None:
    _epoch(desk, job, 1)
    with pytest.raises(ChargeRefused, match="noise epoch"):
        charge(epoch, 0, 1)
    with pytest.raises(ChargeRefused, match="noise epoch"):
        charge(epoch, 0, epsilon=0.1)


def test_no_more_steps_are_charged_than_the_job_was_calibrated_for(
    desk: Any, job: Job, charge: Any, events: Events
) -> None:
    charge(0, 0, 6)
    _epoch(desk, job, 1)
    with pytest.raises(ChargeRefused, match="calibrated for 8"):
        charge(1, 4, 7)
    assert len(events(type="budget.charged")) == 1
    assert charge(1, 4, 6).steps_charged == STEPS


def test_a_charge_beyond_the_reservation_is_refused_and_leaves_nothing(
    desk: Any, audit: Trail, events: Events
) -> None:
    dataset = desk.dataset(3.0)
    tight = (_cost(3) + _cost(4)) / 2
    job = desk.submit(audit, dataset, tight)

    def run(last: int) -> Any:
        with desk.database.write() as session:
            return ledger.charge_training(session, audit, session.get_one(Job, job.id), 0, 0, last)

    with pytest.raises(ChargeRefused, match="has reserved"):
        run(4)
    assert events(type="budget.charged") == []
    assert run(3).epsilon == _cost(3)


def test_a_job_with_a_larger_delta_than_it_reserved_is_refused(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(3.0)
    job = desk.submit(audit, dataset, delta=1e-6)
    with desk.database.write() as session:
        row = session.get_one(Job, job.id)
        row.delta = 1e-5
        with pytest.raises(ChargeRefused, match="delta"):
            ledger.charge_training(session, audit, row, 0, 0, 1)


def test_a_job_with_less_noise_than_it_reserved_for_is_refused(desk: Any, audit: Trail) -> None:
    job = desk.submit(audit, desk.dataset(9.0), 3.0)
    with desk.database.write() as session:
        row = session.get_one(Job, job.id)
        row.noise_multiplier = 1.5
        with pytest.raises(ChargeRefused, match="reserved the budget for"):
            ledger.charge_training(session, audit, row, 0, 0, STEPS)


def test_a_charge_is_a_typed_event_and_a_reservation_their_sum(desk: Any, job: Job, charge: Any) -> None:
    charge(0, 0, 2)
    charge(0, 2, 5)
    charge(0, 2, epsilon=0.1)
    charge(0, 4, epsilon=0.1)
    step = {"kind": "poisson_gaussian", "noise_multiplier": 2.0, "sampling_rate": 0.1}
    with desk.database.read() as session:
        charges = session.scalars(select(BudgetCharge).order_by(BudgetCharge.id)).all()
        row = session.get_one(BudgetReservation, job.id)
    pure = {"kind": "pure", "epsilon": 0.1}
    assert [made.event for made in charges] == [
        step | {"steps": 2},
        step | {"steps": 3},
        pure | {"releases": 1},
        pure | {"releases": 1},
    ]
    assert row.spent_events == [step | {"steps": 5}, pure | {"releases": 2}]


def test_evaluations_add_up_and_are_charged_once(charge: Any, events: Events) -> None:
    training = charge(0, 0, 2)
    once = charge(0, 2, epsilon=0.1)
    assert once.epsilon == pytest.approx(training.epsilon + 0.1, abs=1e-12)
    assert once.epsilon >= training.epsilon + 0.1 - 1e-16
    assert charge(0, 2, epsilon=0.1) == once
    assert charge(0, 4, epsilon=0.1).epsilon == pytest.approx(training.epsilon + 0.2, abs=1e-12)
    kinds = [event.data["kind"] for event in events(type="budget.charged")]
    assert kinds == ["training", "evaluation", "evaluation"]


def test_evaluations_alone_spend_no_delta(charge: Any) -> None:
    assert charge(0, 0, epsilon=0.25) == charge(0, 0, epsilon=0.25)
    charged = charge(0, 1, epsilon=0.25)
    assert (charged.epsilon, charged.delta, charged.steps_charged) == (0.5, 0.0, 0)


def test_an_evaluation_cannot_change_its_price(charge: Any) -> None:
    charge(0, 0, epsilon=0.1)
    with pytest.raises(ChargeRefused, match="was charged"):
        charge(0, 0, epsilon=0.05)


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf"), 1.4])
def test_an_evaluation_that_cannot_be_paid_is_refused(charge: Any, epsilon: float, events: Events) -> None:
    with pytest.raises(ChargeRefused):
        charge(0, 0, epsilon=epsilon)
    assert events(type="budget.charged") == []


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (3, 2)])
def test_what_is_no_range_of_steps_is_refused(charge: Any, first: int, last: int) -> None:
    with pytest.raises(ChargeRefused, match="not a range"):
        charge(0, first, last)


def test_an_ended_job_is_not_charged(desk: Any, audit: Trail, job: Job, charge: Any) -> None:
    with desk.database.write() as session:
        ledger.settle(session, audit, session.get_one(Job, job.id))
    with pytest.raises(ChargeRefused, match="settled"):
        charge(0, 0, 1)
    with pytest.raises(ChargeRefused, match="settled"):
        charge(0, 0, epsilon=0.1)


def test_a_job_without_a_reservation_is_not_charged(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset()
    with desk.database.write() as session, pytest.raises(NoReservation):
        ledger.charge_training(session, audit, desk.job(session, dataset), 0, 0, 1)


def test_a_charge_that_is_rolled_back_never_was(desk: Any, audit: Trail, job: Job, events: Events) -> None:
    def crash() -> None:
        with desk.database.write() as session:
            ledger.charge_training(session, audit, session.get_one(Job, job.id), 0, 0, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    with desk.database.read() as session:
        assert _charged(session, job) == 0
    assert events(type="budget.charged") == []


def _charged(session: Session, job: Job) -> int:
    return ledger.steps_charged(session, session.get_one(Job, job.id))
