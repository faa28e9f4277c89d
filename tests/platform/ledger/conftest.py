"""A dataset with a budget, and jobs on it, whose steps are few: the accountant is real and takes its time."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.db import Database
from secure_train.db.tables import BudgetReservation, Dataset, Job, Principal
from secure_train.db.trail import Trail
from secure_train.dp.composition import PoissonGaussian, Pure
from secure_train.wire.data import BudgetView
from secure_train.wire.worker import Charged

STEPS = 8


class Desk:
    """Opens datasets and jobs in one database."""

    def __init__(self, database: Database, rows: Any) -> None:
        self.database = database
        self.rows = rows
        with database.write() as session:
            rows.project(session)
            rows.principal(session)

    def dataset(self, epsilon: float = 3.0, delta: float = 1e-4, composition: str = "rdp-filter") -> Dataset:
        """Register another dataset with this budget."""
        with self.database.write() as session:
            owner = session.get_one(Principal, "user:alice")
            name = f"d{secrets.token_hex(4)}"
            made: Dataset = self.rows.dataset(
                session,
                owner,
                name=name,
                budget_epsilon=epsilon,
                budget_delta=delta,
                composition=composition,
            )
            ledger.open_budget(session, made)
            return made

    def job(self, session: Session, dataset: Dataset, epsilon: float = 1.0, **values: Any) -> Job:
        """Add a job of at most `STEPS` steps to the session."""
        owner = session.get_one(Principal, "user:alice")
        mechanism = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "steps": STEPS, "epsilon": epsilon}
        made: Job = self.rows.job(session, dataset, owner, **mechanism | values)
        return made

    def reserve(self, session: Session, trail: Trail, job: Job, evaluation: float = 0.3) -> BudgetReservation:
        """Hold room for all steps of a job, and for evaluations."""
        training = PoissonGaussian(job.noise_multiplier, job.sampling_rate, job.steps)
        return ledger.reserve(session, trail, job, (training, Pure(evaluation)))

    def submit(
        self,
        trail: Trail,
        dataset: Dataset,
        epsilon: float = 1.1,
        *,
        evaluation: float = 0.3,
        **values: Any,
    ) -> Job:
        """Job row and reservation in one transaction, as a submission does it."""
        with self.database.write() as session:
            job = self.job(session, dataset, epsilon, **values)
            self.reserve(session, trail, job, evaluation)
            return job

    def charge(self, trail: Trail, job: Job, first: int, last: int, epoch: int = 0) -> Charged:
        """Charge steps of a job in a transaction of their own."""
        with self.database.write() as session:
            row = session.get_one(Job, job.id)
            return ledger.charge_training(session, trail, row, epoch, first, last)

    def settle(self, trail: Trail, job: Job) -> None:
        """End a job."""
        with self.database.write() as session:
            ledger.settle(session, trail, session.get_one(Job, job.id))

    def view(self, dataset: Dataset) -> BudgetView:
        """Show a budget."""
        with self.database.read() as session:
            return ledger.budget(session, session.get_one(Dataset, dataset.id))


@pytest.fixture
def desk(database: Database, rows: Any) -> Desk:
    """Where datasets and jobs are opened."""
    return Desk(database, rows)
