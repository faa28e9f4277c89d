"""Which ε would fit: what is told is admitted, and hardly more is."""

from __future__ import annotations

from typing import Any

import pytest

from secure_train import dp, ledger
from secure_train.db.tables import Dataset, Job
from secure_train.db.trail import Trail
from secure_train.ledger import BudgetExceeded, Room, Shape, largest_epsilon

SHAPE = Shape(sampling_rate=0.1, steps=8, delta=1e-5, evaluation_epsilon=0.1)


def _room(desk: Any, dataset: Dataset) -> Room:
    with desk.database.read() as session:
        return ledger.room(session, session.get_one(Dataset, dataset.id), "census")


def _try(desk: Any, trail: Trail, dataset: Dataset, epsilon: float, shape: Shape) -> Job:
    """Submit a job of the shape as a submission does: calibrated, then reserved."""
    noise = dp.calibrate(epsilon - shape.evaluation_epsilon, shape.delta, shape.sampling_rate, shape.steps)
    with desk.database.write() as session:
        job: Job = desk.job(
            session,
            dataset,
            epsilon,
            delta=shape.delta,
            noise_multiplier=noise,
            sampling_rate=shape.sampling_rate,
            steps=shape.steps,
        )
        ledger.reserve(session, trail, job, shape.events(noise))
        return job


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("shape", "budget"),
    [(SHAPE, 2.0), (Shape(0.01, 300, 1e-6, 0.0), 4.0), (Shape(1.0, 1, 1e-5, 0.2), 2.0)],
    ids=["small", "long", "full"],
)
def test_the_epsilon_that_would_fit_fits_and_two_percent_more_does_not(
    desk: Any, audit: Trail, budget: float, shape: Shape
) -> None:
    dataset = desk.dataset(budget)
    desk.submit(audit, dataset)
    fits = largest_epsilon(_room(desk, dataset), shape)
    assert fits is not None
    with pytest.raises(BudgetExceeded):
        _try(desk, audit, dataset, fits * 1.02, shape)
    _try(desk, audit, dataset, fits, shape)


def test_where_nothing_fits_none_is_told(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(1.6)
    desk.submit(audit, dataset)
    assert largest_epsilon(_room(desk, dataset), Shape(0.1, 8, 1e-5, evaluation_epsilon=0.9)) is None
    assert largest_epsilon(_room(desk, desk.dataset(0.01)), SHAPE) is None


def test_by_plain_addition_what_is_left_fits(desk: Any, audit: Trail) -> None:
    dataset = desk.dataset(3.0, 2.5e-5, "basic")
    desk.submit(audit, dataset, 2.4)
    assert largest_epsilon(_room(desk, dataset), SHAPE) == 0.6
    assert largest_epsilon(_room(desk, dataset), Shape(0.1, 8, 2e-5, 0.1)) is None
    assert largest_epsilon(_room(desk, dataset), Shape(0.1, 8, 1e-5, 0.6)) is None
