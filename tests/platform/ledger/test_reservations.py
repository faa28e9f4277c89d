from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.audit import Record
from secure_train.db.tables import Job
from secure_train.db.trail import Trail
from secure_train.dp.composition import PoissonGaussian, Pure, total_epsilon
from secure_train.ledger import BudgetExceeded, LedgerError, NoReservation

Events = Callable[..., list[Record]]


def _together(jobs: int, steps: int = 8, evaluations: int = 1) -> float:
    return total_epsilon([PoissonGaussian(2.0, 0.1, steps * jobs), Pure(0.3, evaluations * jobs)], 1e-4)


def test_a_reservation_holds_its_part(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0, 1e-4)
    job = desk.submit(audit, dataset, 1.1)
    view = desk.view(dataset)
    assert (view.reserved_epsilon, view.spent_epsilon) == (_together(1), 0.0)
    assert view.available_epsilon == pytest.approx(3.0 - _together(1), abs=1e-12)
    (line,) = view.lines
    assert (line.job_id, line.state, line.epsilon, line.submitted_by) == (job.id, "held", 1.1, "user:alice")
    assert [event.kind for event in line.events] == ["poisson_gaussian", "pure"]
    assert line.spent_events == []
    (event,) = events(type="budget.reserved")
    assert event.subject == f"dataset:{dataset.id}"
    assert (event.data["job"], event.data["epsilon"], event.data["delta"]) == (job.id, 1.1, 1e-5)
    assert event.data["events"] == [event.model_dump() for event in line.events]


def test_many_jobs_come_to_less_than_their_sum(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(3.0)
    for _ in range(4):
        desk.submit(audit, dataset, 1.1)
    assert desk.view(dataset).reserved_epsilon == _together(4) < 3.0 < 4 * 1.1


def test_what_does_not_fit_is_refused_and_told_how_much_is_left(
    desk: Any, audit: Trail, events: Events
) -> None:
    dataset = desk.dataset(2.2)
    job = desk.submit(audit, dataset)
    desk.charge(audit, job, 0, 3)
    desk.submit(audit, dataset)
    with pytest.raises(BudgetExceeded) as caught:
        desk.submit(audit, dataset)
    said = str(caught.value)
    view = desk.view(dataset)
    assert "the job costs ε 1.1 by itself (δ 1e-05)" in said
    assert f"the budget of dataset '{dataset.name}' is ε 2.2 (δ 0.0001)" in said
    assert f"of which {view.spent_epsilon:.4g} are spent, {view.reserved_epsilon:.4g} held by other" in said
    assert f"and {view.available_epsilon:.4g} left" in said
    assert f"it would come to ε {_together(3):.4g}" in said
    assert len(events(type="budget.reserved")) == 2


def test_a_job_fits_exactly_up_to_the_last_digit(desk: Any, audit: Trail) -> None:
    full = _together(2)
    dataset = desk.dataset(full)
    desk.submit(audit, dataset)
    desk.submit(audit, dataset)
    view = desk.view(dataset)
    assert (view.reserved_epsilon, view.available_epsilon) == (full, 0.0)
    with pytest.raises(BudgetExceeded):
        desk.submit(audit, dataset, noise_multiplier=1e6, evaluation=0.0)


@pytest.mark.parametrize(
    "values",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": float("inf")},
        {"delta": 0.0},
        {"delta": float("inf")},
    ],
)
def test_a_reservation_of_nothing_or_nonsense_is_refused(
    desk: Any, audit: Trail, values: dict[str, float]
) -> None:
    with pytest.raises(LedgerError, match="not a positive number"):
        desk.submit(audit, desk.dataset(), **values)


def test_a_reservation_for_no_event_is_refused(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset()
    with desk.database.write() as session, pytest.raises(LedgerError, match="releases nothing"):
        ledger.reserve(session, audit, desk.job(session, dataset), [])


def test_a_job_reserves_once(desk: Any, audit: Trail) -> None:
    job = desk.submit(audit, desk.dataset())
    with desk.database.write() as session, pytest.raises(LedgerError, match="has a reservation"):
        desk.reserve(session, audit, session.get_one(Job, job.id))


def test_settling_returns_what_was_not_spent(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0)
    job = desk.submit(audit, dataset, 1.1)
    charged = desk.charge(audit, job, 0, 3)
    for _ in range(2):
        desk.settle(audit, job)
    view = desk.view(dataset)
    assert view.reserved_epsilon == 0.0
    assert view.spent_epsilon == _together(1, 3, 0)
    assert view.available_epsilon == pytest.approx(3.0 - view.spent_epsilon, abs=1e-12)
    (event,) = events(type="budget.settled")
    assert event.data["spent_epsilon"] == charged.epsilon
    assert event.data["returned_epsilon"] == pytest.approx(1.1 - charged.epsilon, abs=1e-12)
    assert event.data["spent_events"][0]["steps"] == 3


def test_a_resumed_job_holds_all_that_it_may_release_again(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(3.0)
    job = desk.submit(audit, dataset, 1.1)
    desk.charge(audit, job, 0, 3)
    desk.settle(audit, job)
    for _ in range(2):
        with desk.database.write() as session:
            ledger.reopen(session, audit, session.get_one(Job, job.id))
    view = desk.view(dataset)
    assert view.spent_epsilon + view.reserved_epsilon == pytest.approx(_together(1), abs=1e-12)
    assert view.lines[0].state == "held"
    assert len(events(type="budget.reopened")) == 1


def test_a_job_cannot_resume_on_what_others_have_taken(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(_together(1))
    job = desk.submit(audit, dataset)
    desk.settle(audit, job)
    desk.submit(audit, dataset)
    with (
        desk.database.write() as session,
        pytest.raises(BudgetExceeded, match="held by other jobs and 0 left"),
    ):
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
            desk.reserve(session, audit, desk.job(session, dataset))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert desk.view(dataset).available_epsilon == 3.0
    assert events() == []


def test_an_event_of_an_unknown_kind_is_never_counted_as_nothing(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset()
    job = desk.submit(audit, dataset)
    with desk.database.write() as session:
        ledger.reopen(session, audit, session.get_one(Job, job.id)).events = [{"kind": "gift"}]
    with pytest.raises(LedgerError, match="unknown kind 'gift'"):
        desk.submit(audit, dataset)
