"""A small company, as entities without a database: the default policies are pure functions of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from secure_train.db.tables import Dataset, Job, Model, ModelVersion, Principal
from secure_train.policy import JOB_ACTIONS, Action, Actor, PolicyEngine, Request, Resource, resources
from secure_train.policy.entities import (
    checkpoint_entity,
    dataset_entity,
    job_entity,
    model_entity,
    principal_entity,
)

SUBMISSION = {
    "purpose": "income-statistics",
    "project": "census",
    "epsilon": 3.0,
    "delta": 1e-5,
    "workers": 2,
    "own_code": False,
}


class Company:
    """Every resource belongs to the project `census`; `user:olga` owns the dataset.

    `guests` is a project with a part of its budget, `other` one without.
    """

    def __init__(self, engine: PolicyEngine) -> None:
        self.engine = engine
        dataset = Dataset(
            id="ds_1",
            project_id="census",
            name="adult",
            owner_id="user:olga",
            classification=2,
            purposes=["income-statistics"],
        )
        job = Job(
            id="job_1",
            project_id="census",
            submitted_by="user:erik",
            dataset_id="ds_1",
            purpose="income-statistics",
            state="running",
        )
        self.job_row = job
        data = dataset_entity(dataset, rows=20_000, guests=["guests"])
        self.things: dict[str, Resource] = {
            "dataset": Resource("dataset:ds_1", data, "census"),
            "job": Resource("job:job_1", job_entity(job), "census", (data,)),
            "checkpoint": Resource("checkpoint:job_1", checkpoint_entity(job), "census"),
            "model": Resource(
                "model:mdl_1@1",
                model_entity(
                    Model(id="mdl_1", project_id="census"),
                    ModelVersion(version=1, stage="candidate"),
                    ["user:erik"],
                ),
                "census",
            ),
            "project": resources.project("census"),
            "catalog": resources.catalog("jobs"),
            "missing": resources.missing("job", "job_404"),
            "other principal": Resource("user:zoe", self.actor("engineer", "user:zoe").entity),
        }

    def actor(
        self,
        role: str,
        name: str = "user:mia",
        *,
        projects: tuple[str, ...] = ("census",),
        clearance: int = 3,
        active: bool = True,
    ) -> Actor:
        """A person with one role."""
        row = Principal(
            id=name,
            kind="user",
            department="",
            clearance=clearance,
            roles=[role] if role else [],
            active=active,
        )
        return Actor(name, principal_entity(row, projects))

    def job(self, *, submitter_active: bool = True, **changes: Any) -> Actor:
        """The job's own processes, under a whole capability."""
        granted = changes.pop("granted", JOB_ACTIONS)
        values = {
            name: getattr(self.job_row, name)
            for name in ("id", "project_id", "submitted_by", "dataset_id", "purpose", "state")
        }
        row = Job(**values | changes)
        submitter = self.actor("engineer", row.submitted_by, active=submitter_active)
        return Actor(f"job:{row.id}", job_entity(row, granted), (submitter.entity,))

    def ask(
        self, actor: Actor, action: Action, thing: str | Resource, context: Mapping[str, Any] | None = None
    ) -> str:
        """The outcome: 'allow' or the reason of the denial."""
        resource = self.things[thing] if isinstance(thing, str) else thing
        if action is Action.JOB_SUBMIT:
            context = SUBMISSION | dict(context or {})
        if action is Action.DATASET_SET_BUDGET:
            context = {"raises": True, "submitters": ["user:erik"]} | dict(context or {})
        outcome = self.engine.evaluate(Request(actor, action, resource, context or {}))
        return "allow" if outcome.allowed else outcome.reason


@pytest.fixture
def company(engine: PolicyEngine) -> Company:
    """A small company."""
    return Company(engine)
