"""Searches on the plane of the job tests: their trials are launched and played by hand as any job is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from secure_train.db.tables import BudgetReservation, Project, SearchTrial
from secure_train.jobs.search.admission import Admission
from secure_train.jobs.search.service import SearchService
from secure_train.registry.datasets import DatasetService
from secure_train.wire.searches import PlanSearch, SearchDetail, SearchPlan, SubmitSearch

TEMPLATE: dict[str, Any] = {
    "data": {"dataset": "adult"},
    "model": {"kind": "linear"},
    "privacy": {"epsilon": 1.0, "delta": 1e-5, "evaluation": {"epsilon": 0.2}},
    "training": {"batchSize": 16, "steps": 8, "optimizer": {"kind": "sgd", "learningRate": 0.1}},
    "recovery": {"maxFailures": 0},
}
RATES = {"training.optimizer.learningRate": {"choices": [0.1, 0.2, 0.3]}}
RANGE = {"training.optimizer.learningRate": {"low": 0.01, "high": 1.0, "log": True}}


def search_spec(
    sampler: str = "grid",
    parameters: dict[str, Any] | None = None,
    template: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """A search.yaml as JSON: a grid of three learning rates, unless told otherwise."""
    return {
        "apiVersion": "secure-train/v1",
        "kind": "SearchJob",
        "metadata": {"name": "income", "project": "census", "purpose": "income-statistics"},
        "template": TEMPLATE | (template or {}),
        "search": {
            "sampler": sampler,
            "objective": "accuracy",
            "parameters": parameters or (RATES if sampler == "grid" else RANGE),
            **settings,
        },
    }


@dataclass
class Searching:
    """The service under test, and shortcuts."""

    plane: Any
    service: SearchService

    spec = staticmethod(search_spec)

    def submit(self, key: str = "s1", *, by: str = "user:alice", **spec: Any) -> str:
        message = SubmitSearch(spec=search_spec(**spec), idempotency_key=key)
        return self.service.submit(self.plane.actor(by), message)

    def plan(self, *, by: str = "user:alice", **spec: Any) -> SearchPlan:
        return self.service.plan(self.plane.actor(by), PlanSearch(spec=search_spec(**spec)))

    def detail(self, search_id: str) -> SearchDetail:
        return self.service.detail(self.plane.actor("user:alice"), search_id)

    def states(self, search_id: str) -> list[str]:
        return [trial.state for trial in self.detail(search_id).trials]

    def tick(self) -> None:
        self.plane.controller.tick()

    def finish(self, job_id: str, accuracy: float) -> None:
        """Play a trial's processes from launch to the end."""
        processes = self.plane.training(job_id)
        processes.train(0, 8)
        processes.release(8, 0.2, accuracy=accuracy, accuracy_scale=0.01)
        processes.publish()

    def fail(self, job_id: str) -> None:
        self.plane.training(job_id).fail("the model cannot be built", permanent=True)

    def allow_running(self, jobs: int) -> None:
        with self.plane.database.write() as session:
            session.get_one(Project, "census").max_running_jobs = jobs

    def held(self) -> list[str]:
        """The states of all reservations, in the order of their jobs."""
        with self.plane.database.read() as session:
            rows = session.query(BudgetReservation).order_by(BudgetReservation.job_id)
            return [row.state for row in rows]

    def rows(self, search_id: str) -> list[SearchTrial]:
        with self.plane.database.read() as session:
            query = session.query(SearchTrial).filter_by(search_id=search_id)
            return list(query.order_by(SearchTrial.number))


@pytest.fixture
def searching(plane: Any) -> Searching:
    datasets = DatasetService(plane.guard, plane.audit, plane.vault, plane.blocks)
    admission = Admission(plane.guard, plane.audit, plane.database, plane.vault, plane.blocks, datasets)
    return Searching(plane, SearchService(plane.guard, plane.audit, plane.database, admission))
