"""What a report gathers from the database."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fastapi.testclient import TestClient

from secure_train.api import reporting
from secure_train.api.control_plane import ControlPlane
from secure_train.db.tables import Job
from secure_train.policy import Action, actors, resources


def test_a_denial_is_in_the_report_however_many_heartbeats_came_before(
    plane: ControlPlane,
    http: TestClient,
    world: SimpleNamespace,
    token_of: Callable[[str], str],
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(reporting, "SHOWN", 3)
    claims = plane.issuer.issue(world.job)[1]
    for _ in range(5):
        with plane.guard.transaction() as session:
            row = session.get_one(Job, world.job.id)
            actor = actors.job(session, claims)
            plane.guard.authorize(session, actor, Action.JOB_REPORT, resources.job(session, row))
    outsider = {"Authorization": f"Bearer {token_of(world.owner)}"}
    assert http.post(f"/api/v1/jobs/{world.job.id}/resume", headers=outsider).status_code == 403
    with plane.database.read() as session:
        row = session.get_one(Job, world.job.id)
        found = reporting._decisions(session, row, None)
    assert [decision.result for decision in found].count("deny") == 1
    assert [decision.action for decision in found].count("job:report") == 3


def test_the_decision_on_the_submission_is_in_the_report(plane: ControlPlane, rows: Any) -> None:
    with plane.database.write() as session:
        rows.project(session)
        owner = rows.principal(session, "user:olivia", roles=("data-owner",))
        erin = rows.principal(session, "user:erin")
        dataset = rows.dataset(session, owner)
    context = {
        "purpose": "income-statistics",
        "project": "census",
        "epsilon": 1.0,
        "delta": 1e-6,
        "workers": 1,
        "own_code": False,
    }
    with plane.guard.transaction() as session:
        actor = actors.principal(session, session.merge(erin))
        plane.guard.authorize(
            session, actor, Action.JOB_SUBMIT, resources.dataset(session, session.merge(dataset)), context
        )
        job = rows.job(session, dataset, erin)
    with plane.database.read() as session:
        found = reporting._decisions(session, session.get_one(Job, job.id), None)
    assert [decision.action for decision in found] == ["job:submit"]
