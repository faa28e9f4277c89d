"""Submissions, raises and divisions that race each other over one budget, each on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from secure_train import ledger
from secure_train.db.tables import Dataset
from secure_train.db.trail import Trail
from secure_train.dp.composition import PoissonGaussian, Pure, total_epsilon
from secure_train.ledger import BudgetChangeRefused, BudgetExceeded


def _race(runners: list[Callable[[], object]]) -> list[str]:
    """Start all at once; "done" or the name of the refusal for each."""
    start, outcomes = threading.Barrier(len(runners)), [""] * len(runners)

    def run(at: int) -> None:
        start.wait()
        try:
            runners[at]()
            outcomes[at] = "done"
        except Exception as error:
            outcomes[at] = type(error).__name__

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(runners))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _budget_for(jobs: int) -> float:
    return total_epsilon([PoissonGaussian(2.0, 0.1, 8 * jobs), Pure(0.3, jobs)], 1e-4)


@pytest.mark.parametrize(("racers", "fits"), [(5, 3), (50, 7)])
@pytest.mark.parametrize("composition", ["rdp-filter", "basic"])
def test_racing_submissions_never_overspend(
    desk: Any, audit: Trail, composition: str, racers: int, fits: int
) -> None:
    """The budget has room for exactly `fits` of the jobs: exactly so many win."""
    epsilon, delta = (_budget_for(fits), 1e-4) if composition == "rdp-filter" else (1.1 * fits + 0.5, 1e-2)
    dataset = desk.dataset(epsilon, delta, composition)
    outcomes = _race([lambda: desk.submit(audit, dataset)] * racers)
    assert sorted(outcomes) == [BudgetExceeded.__name__] * (racers - fits) + ["done"] * fits
    view = desk.view(dataset)
    assert len(view.lines) == fits
    assert view.spent_epsilon + view.reserved_epsilon <= view.epsilon


def test_budgets_that_are_lowered_while_jobs_race_for_them_are_never_exceeded(
    desk: Any, audit: Trail
) -> None:
    dataset = desk.dataset(_budget_for(6))

    def lower(jobs: int) -> None:
        with desk.database.write() as session:
            row = session.get_one(Dataset, dataset.id)
            ledger.set_budget(session, audit, row, _budget_for(jobs), "less", "user:alice")

    def divide(jobs: int) -> None:
        with desk.database.write() as session:
            row = session.get_one(Dataset, dataset.id)
            ledger.allocate(session, audit, row, "census", _budget_for(jobs), "a part", "user:alice")

    runners: list[Callable[[], object]] = []
    for jobs in (5, 4, 3, 2):
        runners += [lambda: desk.submit(audit, dataset)] * 3
        runners += [lambda jobs=jobs: lower(jobs), lambda jobs=jobs: divide(jobs)]  # type: ignore[misc]
    outcomes = _race(runners)
    assert set(outcomes) <= {"done", BudgetExceeded.__name__, BudgetChangeRefused.__name__}
    view = desk.view(dataset)
    assert view.spent_epsilon + view.reserved_epsilon <= view.epsilon
    for part in view.allocations:
        assert part.reserved_epsilon <= part.epsilon <= view.epsilon
