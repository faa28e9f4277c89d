"""Budgets as people ask for them: decided, recorded, and no more shown than one may see."""

from __future__ import annotations

from typing import Any

import pytest

from secure_train import ledger
from secure_train.db import Database
from secure_train.db.tables import Dataset, Principal
from secure_train.db.trail import Trail
from secure_train.dp.composition import PoissonGaussian
from secure_train.policy import Actor, Denied, Guard, actors
from secure_train.registry import NotFound
from secure_train.registry.budgets import BudgetService, Wish
from secure_train.wire.data import SetAllocation, SetBudget

ADULT = "census/adult"


@pytest.fixture
def budgets(guard: Guard, audit: Trail) -> BudgetService:
    """The service."""
    return BudgetService(guard, audit)


@pytest.fixture
def people(database: Database, rows: Any) -> dict[str, Actor]:
    """Two projects, a dataset of the first, its owner, and an engineer in each."""
    with database.write() as session:
        rows.project(session, "census")
        rows.project(session, "guests")
        made = {
            "olga": rows.principal(session, "user:olga", roles=["data-owner", "engineer"]),
            "erik": rows.principal(session, "user:erik"),
            "gwen": rows.principal(session, "user:gwen", projects=["guests"]),
        }
        rows.dataset(session, made["olga"], rows=1000, budget_epsilon=3.0)
        return {name: actors.principal(session, row) for name, row in made.items()}


def _submit(database: Database, rows: Any, trail: Trail, who: str, project: str = "census") -> str:
    with database.write() as session:
        dataset = session.query(Dataset).one()
        job = rows.job(
            session, dataset, session.get_one(Principal, who), project_id=project, epsilon=0.5, steps=10
        )
        ledger.reserve(session, trail, job, [PoissonGaussian(4.0, 0.05, 10)])
        job_id: str = job.id
        return job_id


def test_a_budget_is_shown_with_what_would_fit(budgets: BudgetService, people: dict[str, Actor]) -> None:
    view = budgets.show(people["erik"], ADULT, Wish())
    assert view.fit is not None
    assert (view.fit.project, view.fit.sampling_rate, view.fit.steps) == ("census", 0.256, 12)
    asked = budgets.show(people["erik"], ADULT, Wish(batch_size=10, steps=100, delta=1e-6)).fit
    assert asked is not None
    assert (asked.sampling_rate, asked.steps, asked.delta) == (0.01, 100, 1e-6)
    assert asked.epsilon is not None
    assert 0.5 < asked.epsilon < 3.0
    nothing = budgets.show(people["erik"], ADULT, Wish(project="guests")).fit
    assert nothing is not None
    assert nothing.epsilon is None


def test_a_raise_is_one_decision_and_one_event_that_names_who_and_why(
    budgets: BudgetService, people: dict[str, Actor], decisions: Any, events: Any
) -> None:
    view = budgets.set(people["olga"], ADULT, SetBudget(epsilon=4.0, reason="approved by the board"))
    assert (view.epsilon, view.changes[-1].reason) == (4.0, "approved by the board")
    (decision,) = decisions()
    assert (decision.action, decision.result) == ("dataset:set-budget", "allow")
    assert decision.request["context"]["raises"] is True
    (event,) = events(type="budget.changed")
    assert (event.actor, event.data["epsilon_before"], event.data["epsilon_after"]) == ("user:olga", 3.0, 4.0)


def test_who_submits_jobs_on_a_dataset_may_lower_but_not_raise_its_budget(
    budgets: BudgetService,
    people: dict[str, Actor],
    database: Database,
    rows: Any,
    audit: Trail,
    events: Any,
) -> None:
    _submit(database, rows, audit, "user:olga")
    for request in (
        lambda: budgets.set(people["olga"], ADULT, SetBudget(epsilon=3.1, reason="more for me")),
        lambda: budgets.allocate(
            people["olga"], ADULT, SetAllocation(project="guests", epsilon=1.0, reason="for a friend")
        ),
    ):
        with pytest.raises(Denied) as caught:
            request()
        assert caught.value.decision.reason == "own-budget-not-raised"
    assert events(type="budget.changed") == []
    assert budgets.set(people["olga"], ADULT, SetBudget(epsilon=2.0, reason="less")).epsilon == 2.0
    part = SetAllocation(project="census", epsilon=1.5, reason="less for us")
    assert budgets.allocate(people["olga"], ADULT, part).allocations[0].epsilon == 1.5


@pytest.mark.parametrize("who", ["erik", "gwen"])
def test_nobody_but_the_owner_changes_a_budget(
    budgets: BudgetService, people: dict[str, Actor], who: str
) -> None:
    with pytest.raises(Denied):
        budgets.set(people[who], ADULT, SetBudget(epsilon=9.0, reason="more"))
    with pytest.raises(Denied):
        budgets.allocate(people[who], ADULT, SetAllocation(project="guests", epsilon=1.0, reason="more"))
    with pytest.raises(Denied):
        budgets.set(people[who], "census/ghost", SetBudget(epsilon=9.0, reason="more"))


def test_a_part_is_for_a_project_that_exists(budgets: BudgetService, people: dict[str, Actor]) -> None:
    with pytest.raises(NotFound, match="no project 'ghosts'"):
        budgets.allocate(people["olga"], ADULT, SetAllocation(project="ghosts", epsilon=1.0, reason="why"))


def test_guests_see_the_budget_once_they_have_a_part_and_of_its_jobs_their_own(
    budgets: BudgetService,
    people: dict[str, Actor],
    database: Database,
    rows: Any,
    audit: Trail,
) -> None:
    with pytest.raises(Denied):
        budgets.show(people["gwen"], ADULT, Wish())
    part = SetAllocation(project="guests", epsilon=1.0, reason="a common study")
    budgets.allocate(people["olga"], ADULT, part)
    _submit(database, rows, audit, "user:erik")
    own = _submit(database, rows, audit, "user:gwen", "guests")
    seen = budgets.show(people["gwen"], ADULT, Wish(project="guests"))
    assert [line.job_id for line in seen.lines] == [own]
    assert seen.hidden_lines == 1
    whole = budgets.show(people["olga"], ADULT, Wish())
    assert (len(whole.lines), whole.hidden_lines) == (2, 0)
    assert seen.reserved_epsilon == whole.reserved_epsilon
