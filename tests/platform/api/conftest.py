"""A control plane with its application, on each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from secure_train import identity
from secure_train.api.app import create_app
from secure_train.api.control_plane import ControlPlane
from secure_train.api.settings import Settings
from secure_train.db import Database
from secure_train.db.tables import Principal

DENY_ALL = '@id("deny-all")\nforbid (principal, action, resource);\n'


def control_plane(database: Database, home: Path, **settings: Any) -> ControlPlane:
    """Build a control plane on a migrated database."""
    home.mkdir(mode=0o700, exist_ok=True)
    url = database.url.render_as_string(hide_password=False)
    return ControlPlane(Settings(home=home, database=url, **settings))


@pytest.fixture
def plane(database: Database, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane with the policies that ship with the product."""
    opened = control_plane(database, tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def deny_all(database: Database, tmp_path: Path, plane: ControlPlane) -> Iterator[ControlPlane]:
    """The same control plane under a policy that forbids everything."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "deny.cedar").write_text(DENY_ALL)
    opened = control_plane(database, plane.settings.home, policies=folder)
    yield opened
    opened.close()


@pytest.fixture
def http(plane: ControlPlane) -> TestClient:
    """A client of the application, without credentials."""
    return TestClient(create_app(plane), raise_server_exceptions=False)


@pytest.fixture
def token_of(plane: ControlPlane) -> Callable[[str], str]:
    """Call it with a principal's id for a fresh token."""

    def issue(principal: str) -> str:
        with plane.database.write() as session:
            return identity.issue_token(session, principal, label="test", days=1)[1]

    return issue


@pytest.fixture
def spec() -> dict[str, Any]:
    """A valid job.yaml for the world's project."""
    return {
        "apiVersion": "secure-train/v1",
        "kind": "TrainingJob",
        "metadata": {"name": "income", "project": "census", "purpose": "income-statistics"},
        "data": {"dataset": "adult"},
        "model": {"kind": "linear"},
        "privacy": {"epsilon": 1.0, "delta": 1e-5, "maxGradNorm": 1.0},
        "training": {"batchSize": 64, "steps": 10, "optimizer": {"kind": "sgd", "learningRate": 0.1}},
    }


@pytest.fixture
def world(plane: ControlPlane, rows: Any, spec: dict[str, Any]) -> SimpleNamespace:
    """A project with an admin, a data owner and an engineer; a dataset; a job that runs; a model."""
    with plane.database.write() as session:
        rows.project(session)
        admin: Principal = rows.principal(session, "user:ada", roles=("admin",))
        owner = rows.principal(session, "user:olivia", roles=("data-owner",))
        engineer = rows.principal(session, "user:erin", roles=("engineer",))
        dataset = rows.dataset(session, owner)
        job = rows.job(session, dataset, engineer, state="running", attempt=1, generation=1, spec=spec)
        done = rows.job(session, dataset, engineer, state="succeeded", attempt=1)
        model, _ = rows.model(session, done)
        return SimpleNamespace(
            admin=admin.id, owner=owner.id, engineer=engineer.id, dataset=dataset.id, job=job, model=model.id
        )
