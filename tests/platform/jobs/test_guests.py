"""Jobs of another project, on a dataset whose owner gave that project a part of its budget."""

from __future__ import annotations

from typing import Any

import pytest

from secure_train.ledger import BudgetExceeded
from secure_train.policy import Denied
from secure_train.registry.budgets import BudgetService
from secure_train.wire.data import SetAllocation
from secure_train.wire.jobs import PlanJob
from secure_train.wire.worker import OpenDataset

OWN = {"metadata__project": "guests", "data__dataset": "census/adult"}


@pytest.fixture
def shared(plane: Any, rows: Any) -> Any:
    """The project `guests` with its engineer, and ε 4 of the dataset's 5 for it."""
    with plane.database.write() as session:
        rows.project(session, "guests")
        rows.principal(session, "user:gwen", projects=["guests"])
    part = SetAllocation(project="guests", epsilon=4.0, reason="a common study")
    BudgetService(plane.guard, plane.audit).allocate(plane.actor("user:olga"), "census/adult", part)
    return plane


def test_a_guests_job_reserves_from_its_part_and_opens_the_dataset(shared: Any) -> None:
    job_id = shared.submit("g1", by="user:gwen", **OWN)
    assert shared.job(job_id).project_id == "guests"
    grant = shared.workers.open_dataset(shared.training(job_id).token, OpenDataset(generation=1))
    assert grant.training_rows == 160
    with pytest.raises(BudgetExceeded, match="the part of project 'guests' in the budget of dataset 'adult'"):
        shared.submit("g2", by="user:gwen", **OWN)
    assert shared.submit("own")


def test_without_a_part_the_dataset_does_not_exist_for_another_project(plane: Any, rows: Any) -> None:
    with plane.database.write() as session:
        rows.project(session, "guests")
        rows.principal(session, "user:gwen", projects=["guests"])
    reasons = []
    for dataset in ("census/adult", "census/ghost"):
        with pytest.raises(Denied) as caught:
            plane.submit(by="user:gwen", **OWN | {"data__dataset": dataset})
        reasons.append(caught.value.decision.reason)
    assert reasons == ["no_policy_permits", "no_policy_permits"]


def test_nobody_submits_on_the_account_of_a_project_that_they_are_not_in(shared: Any) -> None:
    alice = shared.actor("user:alice")
    plan = shared.jobs.plan(alice, PlanJob(spec=shared.spec_with(**OWN)))
    assert (plan.allowed, plan.reason) == (False, "job-names-another-project")
