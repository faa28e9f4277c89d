from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.audit import Record
from secure_train.db import Database
from secure_train.db.tables import BudgetReservation, Dataset, Job
from secure_train.db.trail import Trail
from secure_train.ledger import BudgetExceeded, LedgerError, NoReservation

Events = Callable[..., list[Record]]


def _submit(desk: Any, trail: Trail, dataset: Dataset, epsilon: float, delta: float = 1e-5) -> Job:
    """Job row and reservation in one transaction, as a submission does it."""
    with desk.database.write() as session:
        job: Job = desk.job(session, dataset, epsilon, delta=delta)
        ledger.reserve(session, trail, job, epsilon, delta)
        return job


def _budget(database: Database, dataset: Dataset) -> Any:
    with database.read() as session:
        return ledger.budget(session, session.get_one(Dataset, dataset.id))


def test_a_reservation_holds_its_part(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0, 1e-4)
    job = _submit(desk, audit, dataset, 1.0, 1e-5)
    view = _budget(desk.database, dataset)
    assert (view.reserved_epsilon, view.available_epsilon, view.spent_epsilon) == (1.0, 2.0, 0.0)
    assert (view.reserved_delta, view.available_delta) == (1e-5, 9e-5)
    (line,) = view.lines
    assert (line.job_id, line.state, line.epsilon, line.submitted_by) == (job.id, "held", 1.0, "user:alice")
    (event,) = events(type="budget.reserved")
    assert event.subject == f"dataset:{dataset.id}"
    assert event.data == {"job": job.id, "epsilon": 1.0, "delta": 1e-5}


def test_what_does_not_fit_is_refused_and_told_what_would(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0)
    _submit(desk, audit, dataset, 2.4)
    with pytest.raises(BudgetExceeded, match=r"epsilon up to 0\.6 ") as caught:
        _submit(desk, audit, dataset, 0.7)
    assert caught.value.available_epsilon == 0.6
    assert len(events(type="budget.reserved")) == 1
    _submit(desk, audit, dataset, caught.value.available_epsilon)
    with pytest.raises(BudgetExceeded, match="nothing is left"):
        _submit(desk, audit, dataset, 1e-9)


def test_delta_is_a_budget_too(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(100.0, 2.5e-5)
    for _ in range(2):
        _submit(desk, audit, dataset, 1.0, 1e-5)
    with pytest.raises(BudgetExceeded) as caught:
        _submit(desk, audit, dataset, 1.0, 1e-5)
    assert caught.value.available_delta == 5e-6


def test_tenths_fill_a_budget_exactly(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(0.3)
    for _ in range(3):
        _submit(desk, audit, dataset, 0.1)
    assert _budget(desk.database, dataset).available_epsilon == 0.0


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.0, 1e-5), (-1.0, 1e-5), (float("nan"), 1e-5), (float("inf"), 1e-5), (1.0, 0.0), (1.0, float("nan"))],
)
def test_a_reservation_of_nothing_or_nonsense_is_refused(
    desk: Any, audit: Trail, epsilon: float, delta: float
) -> None:
    dataset = desk.dataset()
    with desk.database.write() as session, pytest.raises(LedgerError, match="not a positive number"):
        ledger.reserve(session, audit, desk.job(session, dataset), epsilon, delta)


def test_a_job_reserves_once(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset()
    with desk.database.write() as session:
        job = desk.job(session, dataset)
        ledger.reserve(session, audit, job, 1.0, 1e-5)
        with pytest.raises(LedgerError, match="has a reservation"):
            ledger.reserve(session, audit, job, 1.0, 1e-5)


def test_settling_returns_what_was_not_spent(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0)
    job = _submit(desk, audit, dataset, 2.0)
    with desk.database.write() as session:
        charged = ledger.charge_training(session, audit, session.get_one(Job, job.id), 0, 0, 3)
    for _ in range(2):
        with desk.database.write() as session:
            ledger.settle(session, audit, session.get_one(Job, job.id))
    view = _budget(desk.database, dataset)
    assert view.reserved_epsilon == 0.0
    assert view.spent_epsilon == charged.epsilon > 0
    assert view.available_epsilon == pytest.approx(3.0 - charged.epsilon, abs=1e-12)
    (event,) = events(type="budget.settled")
    assert event.data["spent_epsilon"] == charged.epsilon
    assert event.data["returned_epsilon"] == pytest.approx(2.0 - charged.epsilon, abs=1e-12)


def test_a_resumed_job_holds_its_rest_again(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0)
    job = _submit(desk, audit, dataset, 2.0)
    with desk.database.write() as session:
        ledger.charge_training(session, audit, session.get_one(Job, job.id), 0, 0, 3)
        ledger.settle(session, audit, session.get_one(Job, job.id))
    for _ in range(2):
        with desk.database.write() as session:
            ledger.reopen(session, audit, session.get_one(Job, job.id))
    view = _budget(desk.database, dataset)
    assert view.available_epsilon == 1.0
    assert view.lines[0].state == "held"
    assert len(events(type="budget.reopened")) == 1


def test_a_job_cannot_resume_on_what_others_have_taken(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(3.0)
    job = _submit(desk, audit, dataset, 2.0)
    with desk.database.write() as session:
        ledger.settle(session, audit, session.get_one(Job, job.id))
    _submit(desk, audit, dataset, 1.5)
    with desk.database.write() as session, pytest.raises(BudgetExceeded, match=r"up to 1\.5 "):
        ledger.reopen(session, audit, session.get_one(Job, job.id))


@pytest.mark.parametrize("operation", [ledger.settle, ledger.reopen])
def test_a_job_that_reserved_nothing_has_nothing_to_settle(
    desk: Any, audit: Trail, operation: Callable[[Session, Trail, Job], object]
) -> None:
    dataset = desk.dataset()
    with desk.database.write() as session, pytest.raises(NoReservation):
        operation(session, audit, desk.job(session, dataset))


def test_a_reservation_that_is_rolled_back_never_was(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset()

    def crash() -> None:
        with desk.database.write() as session:
            ledger.reserve(session, audit, desk.job(session, dataset), 1.0, 1e-5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert _budget(desk.database, dataset).available_epsilon == 3.0
    assert events() == []


@pytest.mark.parametrize(("racers", "fits"), [(2, 1), (5, 3), (16, 7)])
def test_racing_submissions_never_overspend(desk: Any, audit: Trail, racers: int, fits: int) -> None:
    """Every racer wants 0.1 and the budget has room for `fits` of them: exactly so many win."""
    dataset = desk.dataset(fits * 0.1 + 0.05)
    outcomes: list[str] = []
    start = threading.Barrier(racers)

    def race() -> None:
        start.wait()
        try:
            _submit(desk, audit, dataset, 0.1)
            outcomes.append("won")
        except BudgetExceeded:
            outcomes.append("refused")
        except Exception as error:
            outcomes.append(repr(error))

    threads = [threading.Thread(target=race) for _ in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * (racers - fits) + ["won"] * fits
    with desk.database.read() as session:
        held = session.scalar(select(func.sum(BudgetReservation.epsilon)))
    assert held == pytest.approx(0.1 * fits)
