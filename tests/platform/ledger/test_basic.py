"""Datasets whose owner chose plain addition of ε and δ."""

from __future__ import annotations

from typing import Any

import pytest

from secure_train.db.tables import Dataset
from secure_train.db.trail import Trail
from secure_train.ledger import BudgetExceeded


@pytest.fixture
def dataset(desk: Any) -> Dataset:
    """ε = 3 and δ = 2.5e-5."""
    made: Dataset = desk.dataset(3.0, 2.5e-5, "basic")
    return made


def test_epsilon_and_delta_are_summed_exactly(desk: Any, audit: Trail, dataset: Dataset) -> None:
    desk.submit(audit, dataset, 2.4)
    view = desk.view(dataset)
    assert (view.reserved_epsilon, view.available_epsilon, view.spent_epsilon) == (2.4, 0.6, 0.0)
    assert (view.reserved_delta, view.available_delta) == (1e-5, 1.5e-5)
    with pytest.raises(BudgetExceeded, match=r"0\.6 left\. With this job it would come to ε 3\.1"):
        desk.submit(audit, dataset, 0.7)
    desk.submit(audit, dataset, 0.6)
    assert desk.view(dataset).available_epsilon == 0.0


def test_tenths_fill_a_budget_exactly(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(0.3, 1e-3, "basic")
    for _ in range(3):
        desk.submit(audit, dataset, 0.1)
    assert desk.view(dataset).available_epsilon == 0.0


def test_delta_is_a_budget_too(desk: Any, audit: Trail, dataset: Dataset) -> None:
    for _ in range(2):
        desk.submit(audit, dataset, 1.0)
    with pytest.raises(BudgetExceeded, match="it would come to δ 3e-05"):
        desk.submit(audit, dataset, 1.0)


def test_a_job_that_never_took_a_step_gives_everything_back(
    desk: Any, audit: Trail, dataset: Dataset
) -> None:
    job = desk.submit(audit, dataset, 2.4)
    desk.settle(audit, job)
    view = desk.view(dataset)
    assert (view.available_epsilon, view.spent_epsilon, view.spent_delta) == (3.0, 0.0, 0.0)


def test_a_job_that_was_stopped_half_way_gives_back_its_evaluations_only(
    desk: Any, audit: Trail, dataset: Dataset
) -> None:
    """When it was stopped may depend on what it had released: only the bound for all steps holds then."""
    job = desk.submit(audit, dataset, 2.4, evaluation=0.4)
    desk.charge(audit, job, 0, 1)
    before = desk.view(dataset)
    assert (before.spent_epsilon, before.spent_delta) == (2.0, 1e-5)
    desk.settle(audit, job)
    view = desk.view(dataset)
    assert (view.spent_epsilon, view.available_epsilon, view.reserved_epsilon) == (2.0, 1.0, 0.0)
    assert view.lines[0].spent_epsilon < 0.5
