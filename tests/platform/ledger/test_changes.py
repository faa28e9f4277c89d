"""Budgets that are raised, lowered and divided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from secure_train import ledger
from secure_train.audit import Record
from secure_train.db.tables import Dataset, Job
from secure_train.db.trail import Trail
from secure_train.ledger import BudgetChangeRefused, BudgetExceeded

Events = Callable[..., list[Record]]


def _set(desk: Any, trail: Trail, dataset: Dataset, epsilon: float) -> None:
    with desk.database.write() as session:
        row = session.get_one(Dataset, dataset.id)
        ledger.set_budget(session, trail, row, epsilon, "a second study", "user:alice")


def _allocate(desk: Any, trail: Trail, dataset: Dataset, epsilon: float, project: str = "census") -> None:
    with desk.database.write() as session:
        row = session.get_one(Dataset, dataset.id)
        ledger.allocate(session, trail, row, project, epsilon, "their part", "user:alice")


@pytest.fixture
def guests(desk: Any) -> str:
    """Another project."""
    with desk.database.write() as session:
        made: str = desk.rows.project(session, "guests")
        return made


def test_a_raised_budget_has_more_room_and_the_decision_is_on_record(
    desk: Any, audit: Trail, events: Events
) -> None:
    dataset = desk.dataset(1.6)
    desk.submit(audit, dataset)
    with pytest.raises(BudgetExceeded):
        desk.submit(audit, dataset)
    _set(desk, audit, dataset, 3.0)
    desk.submit(audit, dataset)
    view = desk.view(dataset)
    assert [(c.epsilon_before, c.epsilon_after, c.by, c.reason) for c in view.changes] == [
        (None, 1.6, "user:alice", "registered"),
        (1.6, 3.0, "user:alice", "a second study"),
    ]
    (event,) = events(type="budget.changed")
    assert (event.actor, event.subject) == ("user:alice", f"dataset:{dataset.id}")
    assert event.data == {
        "project": None,
        "epsilon_before": 1.6,
        "epsilon_after": 3.0,
        "delta": 1e-4,
        "reason": "a second study",
    }


def test_setting_what_is_set_changes_and_records_nothing(desk: Any, audit: Trail, events: Events) -> None:
    dataset = desk.dataset(1.6)
    _set(desk, audit, dataset, 1.6)
    assert events(type="budget.changed") == []
    assert len(desk.view(dataset).changes) == 1


def test_a_budget_is_lowered_to_what_is_spent_and_held_and_no_further(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(3.0)
    job = desk.submit(audit, dataset)
    desk.charge(audit, job, 0, 4)
    used = desk.view(dataset).spent_epsilon + desk.view(dataset).reserved_epsilon
    with pytest.raises(BudgetChangeRefused, match="What is spent is spent"):
        _set(desk, audit, dataset, used * 0.999)
    _set(desk, audit, dataset, used * 1.000001)
    desk.settle(audit, job)
    with pytest.raises(BudgetChangeRefused):
        _set(desk, audit, dataset, desk.view(dataset).spent_epsilon * 0.999)
    _set(desk, audit, dataset, desk.view(dataset).spent_epsilon)
    assert desk.view(dataset).available_epsilon == 0.0


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_number_is_refused(desk: Any, audit: Trail, epsilon: float) -> None:
    dataset = desk.dataset()
    with pytest.raises(BudgetChangeRefused, match="not a positive number"):
        _set(desk, audit, dataset, epsilon)
    with pytest.raises(BudgetChangeRefused, match="not a positive number"):
        _allocate(desk, audit, dataset, epsilon)


def test_a_projects_jobs_stay_within_its_part_and_all_jobs_within_the_whole(
    desk: Any, audit: Trail, guests: str
) -> None:
    dataset = desk.dataset(2.2)
    _allocate(desk, audit, dataset, 1.7)
    _allocate(desk, audit, dataset, 1.7, guests)
    desk.submit(audit, dataset)
    with pytest.raises(BudgetExceeded, match="the part of project 'census' in the budget of dataset"):
        desk.submit(audit, dataset)
    guest = desk.submit(audit, dataset, project_id=guests)
    view = desk.view(dataset)
    assert [(a.project, a.epsilon) for a in view.allocations] == [("census", 1.7), ("guests", 1.7)]
    first, second = view.allocations
    assert first.reserved_epsilon == second.reserved_epsilon < view.reserved_epsilon < 2.2
    assert first.available_epsilon == pytest.approx(1.7 - first.reserved_epsilon)
    with pytest.raises(BudgetExceeded, match="the part of project 'guests'"):
        desk.submit(audit, dataset, project_id=guests)
    _allocate(desk, audit, dataset, 2.2, guests)
    with pytest.raises(BudgetExceeded, match="the budget of dataset"):
        desk.submit(audit, dataset, project_id=guests)
    desk.settle(audit, guest)
    desk.submit(audit, dataset, project_id=guests)


def test_another_project_without_a_part_has_none(desk: Any, audit: Trail, guests: str) -> None:
    with pytest.raises(BudgetExceeded, match=r"the part of project 'guests' .* is ε 0 "):
        desk.submit(audit, desk.dataset(), project_id=guests)


def test_a_part_is_at_most_the_whole_and_at_least_what_is_used(desk: Any, audit: Trail, guests: str) -> None:
    dataset = desk.dataset(3.0)
    with pytest.raises(BudgetChangeRefused, match="more than that"):
        _allocate(desk, audit, dataset, 3.1)
    desk.submit(audit, dataset)
    with pytest.raises(BudgetChangeRefused, match="the part of project 'census'"):
        _allocate(desk, audit, dataset, 1.0)
    _allocate(desk, audit, dataset, 2.5, guests)
    with pytest.raises(BudgetChangeRefused, match=r"project 'guests' has a part of ε 2\.5"):
        _set(desk, audit, dataset, 2.0)
    _allocate(desk, audit, dataset, 1.5, guests)
    _set(desk, audit, dataset, 2.0)
    assert [(c.project, c.epsilon_before, c.epsilon_after) for c in desk.view(dataset).changes] == [
        (None, None, 3.0),
        ("guests", None, 2.5),
        ("guests", 2.5, 1.5),
        (None, 3.0, 2.0),
    ]


def test_a_resumed_job_has_to_fit_its_projects_part_too(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(3.0)
    job = desk.submit(audit, dataset)
    desk.settle(audit, job)
    _allocate(desk, audit, dataset, 1.0)
    with desk.database.write() as session, pytest.raises(BudgetExceeded, match="the part of project"):
        ledger.reopen(session, audit, session.get_one(Job, job.id))
