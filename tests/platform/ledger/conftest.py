"""A dataset with a budget, and jobs on it, whose steps are few: the accountant is real and takes its time."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from sqlalchemy.orm import Session

from secure_train.db import Database
from secure_train.db.tables import Dataset, Job, Principal

STEPS = 8


class Desk:
    """Opens datasets and jobs in one database."""

    def __init__(self, database: Database, rows: Any) -> None:
        self.database = database
        self.rows = rows
        with database.write() as session:
            rows.project(session)
            rows.principal(session)

    def dataset(self, epsilon: float = 3.0, delta: float = 1e-4) -> Dataset:
        """Register another dataset with this budget."""
        with self.database.write() as session:
            owner = session.get_one(Principal, "user:alice")
            name = f"d{secrets.token_hex(4)}"
            made: Dataset = self.rows.dataset(
                session, owner, name=name, budget_epsilon=epsilon, budget_delta=delta
            )
            return made

    def job(self, session: Session, dataset: Dataset, epsilon: float = 1.0, **values: Any) -> Job:
        """Add a job of at most `STEPS` steps to the session."""
        owner = session.get_one(Principal, "user:alice")
        mechanism = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "steps": STEPS, "epsilon": epsilon}
        made: Job = self.rows.job(session, dataset, owner, **mechanism | values)
        return made


@pytest.fixture
def desk(database: Database, rows: Any) -> Desk:
    """Where datasets and jobs are opened."""
    return Desk(database, rows)
