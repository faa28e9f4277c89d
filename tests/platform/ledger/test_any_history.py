"""Whatever happens to a dataset's jobs, in whatever order: what was promised about its budget holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import dp, ledger
from secure_train.db.tables import BudgetCharge, BudgetReservation, Dataset, Job
from secure_train.db.trail import Trail
from secure_train.dp.composition import PoissonGaussian, Pure, merged, total_epsilon
from secure_train.ledger import BudgetChangeRefused, BudgetExceeded, ChargeRefused
from secure_train.ledger.events import event_from_json, events_from_json

BUDGETS = {"rdp-filter": (2.6, 1e-4), "basic": (4.0, 4.5e-5)}
JOB_EPSILON, PLANNED_EVALUATIONS = 1.1, 0.3
STEPS = st.integers(0, 9)


class Crash(BaseException):
    """The process dies before its transaction commits."""


class Ledger(RuleBasedStateMachine):
    """The model: which (noise epoch, step) and evaluations each job was charged for, and what it spent."""

    def __init__(self, desk: Any, audit: Trail, composition: str) -> None:
        super().__init__()
        self.desk, self.audit = desk, audit
        self.dataset: Dataset = desk.dataset(*BUDGETS[composition], composition)
        self.spent = 0.0
        self.jobs: list[str] = []
        self.steps: dict[str, set[tuple[int, int]]] = {}
        self.evaluations: dict[str, dict[tuple[int, int], float]] = {}
        self.shown: dict[str, tuple[float, float]] = {}

    def _run(self, crash: bool, action: Callable[[Session], object]) -> bool:
        """Run an action in a transaction. True if it was done; a crash or a refusal leaves no trace."""
        try:
            with self.desk.database.write() as session:
                action(session)
                if crash:
                    raise Crash
        except (Crash, ChargeRefused, BudgetExceeded, BudgetChangeRefused):
            return False
        return True

    def _job(self, session: Session, index: int) -> Job:
        return session.get_one(Job, self.jobs[index % len(self.jobs)])

    @rule(crash=st.booleans())
    def submit(self, crash: bool) -> None:
        made: list[str] = []

        def action(session: Session) -> None:
            job = self.desk.job(session, self.dataset, JOB_EPSILON)
            self.desk.reserve(session, self.audit, job, PLANNED_EVALUATIONS)
            made.append(job.id)

        if self._run(crash, action):
            (job,) = made
            self.jobs.append(job)
            self.steps[job], self.evaluations[job], self.shown[job] = set(), {}, (0.0, 0.0)

    @precondition(lambda self: self.jobs)
    @rule(index=st.integers(0, 9), first=STEPS, length=st.integers(1, 4), crash=st.booleans())
    def train(self, index: int, first: int, length: int, crash: bool) -> None:
        charged: list[tuple[str, int, int]] = []

        def action(session: Session) -> None:
            job = self._job(session, index)
            answer = ledger.charge_training(session, self.audit, job, job.noise_epoch, first, first + length)
            charged.append((job.id, job.noise_epoch, answer.steps_charged))

        if self._run(crash, action):
            ((job, epoch, count),) = charged
            self.steps[job] |= {(epoch, step) for step in range(first, first + length)}
            assert count == len(self.steps[job])

    @precondition(lambda self: self.jobs)
    @rule(index=st.integers(0, 9), step=STEPS, epsilon=st.sampled_from([0.05, 0.1, 0.3]), crash=st.booleans())
    def evaluate(self, index: int, step: int, epsilon: float, crash: bool) -> None:
        charged: list[tuple[str, int]] = []

        def action(session: Session) -> None:
            job = self._job(session, index)
            ledger.charge_evaluation(session, self.audit, job, job.noise_epoch, step, epsilon)
            charged.append((job.id, job.noise_epoch))

        if self._run(crash, action):
            ((job, epoch),) = charged
            assert self.evaluations[job].setdefault((epoch, step), epsilon) == epsilon

    @precondition(lambda self: self.jobs)
    @rule(index=st.integers(0, 9))
    def diverge(self, index: int) -> None:
        def action(session: Session) -> None:
            self._job(session, index).noise_epoch += 1

        self._run(False, action)

    @precondition(lambda self: self.jobs)
    @rule(index=st.integers(0, 9), crash=st.booleans())
    def settle(self, index: int, crash: bool) -> None:
        self._run(crash, lambda session: ledger.settle(session, self.audit, self._job(session, index)))

    @precondition(lambda self: self.jobs)
    @rule(index=st.integers(0, 9), crash=st.booleans())
    def resume(self, index: int, crash: bool) -> None:
        self._run(crash, lambda session: ledger.reopen(session, self.audit, self._job(session, index)))

    @rule(factor=st.sampled_from([0.3, 0.7, 0.95, 1.2, 1.7]), crash=st.booleans())
    def change_the_budget(self, factor: float, crash: bool) -> None:
        def action(session: Session) -> None:
            row = session.get_one(Dataset, self.dataset.id)
            ledger.set_budget(session, self.audit, row, row.budget_epsilon * factor, "why", "user:alice")

        self._run(crash, action)

    @rule(share=st.sampled_from([0.4, 0.8, 1.0]), crash=st.booleans())
    def divide_the_budget(self, share: float, crash: bool) -> None:
        def action(session: Session) -> None:
            row = session.get_one(Dataset, self.dataset.id)
            part = row.budget_epsilon * share
            ledger.allocate(session, self.audit, row, "census", part, "why", "user:alice")

        self._run(crash, action)

    @invariant()
    def every_promise_holds(self) -> None:
        with self.desk.database.read() as session:
            view = ledger.budget(session, session.get_one(Dataset, self.dataset.id))
            reservations = session.scalars(
                select(BudgetReservation).where(BudgetReservation.dataset_id == self.dataset.id)
            ).all()
            charges = session.scalars(select(BudgetCharge).where(BudgetCharge.job_id.in_(self.jobs))).all()
        assert {row.job_id for row in reservations} == set(self.jobs)
        for row in reservations:
            self._one(row, [charge for charge in charges if charge.job_id == row.job_id])
        assert self.spent <= view.spent_epsilon
        assert view.spent_epsilon + view.reserved_epsilon <= view.epsilon * (1 + 1e-12)
        assert view.spent_delta + view.reserved_delta <= view.delta * (1 + 1e-12)
        assert view.available_epsilon >= 0
        assert view.available_delta >= 0
        for part in view.allocations:
            assert part.spent_epsilon + part.reserved_epsilon <= part.epsilon * (1 + 1e-12)
        assert view.spent_epsilon >= self._released(view.composition)
        self.spent = view.spent_epsilon

    def _released(self, composition: str) -> float:
        """What the model's jobs have released, composed on its own."""
        steps = {job: len(found) for job, found in self.steps.items()}
        evaluations = [epsilon for found in self.evaluations.values() for epsilon in found.values()]
        if composition == "rdp-filter":
            training = PoissonGaussian(2.0, 0.1, sum(steps.values()))
            return total_epsilon([training, *map(Pure, evaluations)], BUDGETS[composition][1]) * (1 - 1e-12)
        trained = sum(dp.epsilon(dp.Mechanism(2.0, 0.1, 8 if count else 0), 1e-5) for count in steps.values())
        return trained + sum(evaluations) - 1e-12

    def _one(self, row: BudgetReservation, charges: list[BudgetCharge]) -> None:
        steps = [
            (charge.noise_epoch, step)
            for charge in charges
            if charge.kind == "training"
            for step in range(charge.first_step, charge.last_step)
        ]
        assert len(steps) == len(set(steps)) <= 8
        assert set(steps) == self.steps[row.job_id]
        evaluations = {
            (c.noise_epoch, c.first_step): c.event["epsilon"] for c in charges if c.kind == "evaluation"
        }
        assert evaluations == self.evaluations[row.job_id]
        cost = dp.epsilon(dp.Mechanism(2.0, 0.1, len(steps)), 1e-5) + sum(evaluations.values())
        before_epsilon, before_delta = self.shown[row.job_id]
        assert before_epsilon <= row.spent_epsilon <= row.epsilon
        assert before_delta <= row.spent_delta <= row.delta
        assert row.spent_epsilon >= cost - 1e-12
        assert row.spent_delta >= (1e-5 if steps else 0.0)
        told = [event_from_json(charge.event) for charge in charges]
        assert set(events_from_json(row.spent_events)) == set(merged(told))
        self.shown[row.job_id] = (row.spent_epsilon, row.spent_delta)


@pytest.mark.parametrize("composition", list(BUDGETS))
def test_budgets_hold_in_any_history(desk: Any, audit: Trail, composition: str) -> None:
    run_state_machine_as_test(
        lambda: Ledger(desk, audit, composition),
        settings=settings(
            max_examples=12 if desk.database.is_sqlite else 4,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
