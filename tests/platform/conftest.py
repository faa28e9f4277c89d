"""Shared by all tests of the platform: migrated databases of each kind, the audit trail, the guard, rows."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import identity
from secure_train.audit import AuditLog, Record
from secure_train.db import Database, migrate, new_id
from secure_train.db.tables import (
    Dataset,
    DatasetVersion,
    DecisionRecord,
    Job,
    Model,
    ModelVersion,
    Principal,
)
from secure_train.db.trail import Trail
from secure_train.policy import Actor, Guard, PolicyEngine, actors

ORIGIN = "test.example/audit"
POSTGRESQL_NAME = "secure_train_tests"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite database to copy."""
    path = tmp_path_factory.mktemp("template") / "control.db"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def postgresql_migrated(postgresql_server: str) -> str:
    """The URL of a migrated PostgreSQL database, which each test finds emptied."""
    with psycopg.connect(postgresql_server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {POSTGRESQL_NAME}")
    url = postgresql_server.rsplit("/", 1)[0] + f"/{POSTGRESQL_NAME}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    return url


def _empty(url: str) -> None:
    """Empty all tables of a PostgreSQL database: far quicker than another database for each test."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        # A test that failed may have left a transaction open, which would hold its locks.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables "
            "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchone()
        assert tables is not None
        connection.execute(f"TRUNCATE {tables[0]}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database of each kind that the product supports."""
    if request.param == "sqlite":
        path = tmp_path / "control.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        opened = Database(f"sqlite:///{path}")
    else:
        url = request.getfixturevalue("postgresql_migrated")
        _empty(url)
        opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def log() -> AuditLog:
    """The audit log itself."""
    return AuditLog(ORIGIN)


@pytest.fixture
def audit(log: AuditLog) -> Trail:
    """The audit trail as services take it: events are appended as their transaction commits."""
    return Trail(log)


@pytest.fixture(scope="session")
def engine() -> PolicyEngine:
    """The policies that ship with the product."""
    return PolicyEngine.load()


@pytest.fixture
def guard(database: Database, engine: PolicyEngine, audit: Trail) -> Guard:
    """A guard with the policies that ship with the product."""
    return Guard(database, engine, audit)


@pytest.fixture
def events(database: Database, log: AuditLog) -> Callable[..., list[Record]]:
    """Call it for the audit events that are committed; `type=`, `subject=`… filter."""

    def committed(**where: Any) -> list[Record]:
        with database.read() as session:
            return list(log.events(session, **where))

    return committed


@pytest.fixture
def decisions(database: Database) -> Callable[[], list[DecisionRecord]]:
    """Call it for the decision records that are committed, oldest first."""

    def committed() -> list[DecisionRecord]:
        with database.read() as session:
            return list(
                session.scalars(select(DecisionRecord).order_by(DecisionRecord.at, DecisionRecord.id))
            )

    return committed


class Rows:
    """Makes rows in a session; what a test does not care about has a default."""

    def project(self, session: Session, name: str = "census", **values: Any) -> str:
        """Create a project."""
        return identity.create_project(session, name, **values).id

    def principal(
        self,
        session: Session,
        name: str = "user:alice",
        *,
        roles: Sequence[str] = ("engineer",),
        projects: Sequence[str] = ("census",),
        clearance: int = 3,
        active: bool = True,
        department: str = "",
    ) -> Principal:
        """Create a principal."""
        row = identity.create_principal(
            session, name, roles=roles, projects=projects, clearance=clearance, department=department
        )
        if not active:
            identity.update_principal(session, row, active=False)
        return row

    def dataset(
        self, session: Session, owner: Principal, name: str = "adult", rows: int = 20_000, **values: Any
    ) -> Dataset:
        """Create a dataset with one version."""
        defaults: dict[str, Any] = {
            "project_id": "census",
            "classification": 2,
            "purposes": ["income-statistics"],
            "budget_epsilon": 10.0,
            "budget_delta": 1e-4,
        }
        dataset = Dataset(id=new_id("ds"), name=name, owner_id=owner.id, **defaults | values)
        session.add(dataset)
        session.flush()
        session.add(
            DatasetVersion(
                dataset_id=dataset.id,
                version=1,
                schema={},
                digest=secrets.token_hex(32),
                training_rows=rows,
                holdout_rows=rows // 5,
                manifest_id=new_id("manifest"),
                wrapped_key=b"wrapped",
                stored_bytes=1,
                created_by=owner.id,
            )
        )
        session.flush()
        return dataset

    def job(self, session: Session, dataset: Dataset, submitter: Principal, **values: Any) -> Job:
        """Create a job on version 1 of a dataset."""
        defaults: dict[str, Any] = {
            "id": new_id("job"),
            "name": "income",
            "project_id": dataset.project_id,
            "purpose": "income-statistics",
            "submitted_by": submitter.id,
            "idempotency_key": secrets.token_hex(8),
            "spec": {},
            "spec_digest": "0" * 64,
            "dataset_id": dataset.id,
            "dataset_version": 1,
            "epsilon": 3.0,
            "delta": 1e-5,
            "noise_multiplier": 1.2,
            "sampling_rate": 0.05,
            "steps": 100,
            "wrapped_key": b"wrapped",
        }
        job = Job(**defaults | values)
        session.add(job)
        session.flush()
        return job

    def model(self, session: Session, job: Job, name: str = "income") -> tuple[Model, ModelVersion]:
        """Create a model with one version that the job published."""
        model = Model(id=new_id("mdl"), project_id=job.project_id, name=name)
        session.add(model)
        session.flush()
        version = ModelVersion(
            model_id=model.id,
            version=1,
            job_id=job.id,
            manifest_id=new_id("manifest"),
            digest=secrets.token_hex(32),
            wrapped_key=b"wrapped",
            lineage={},
            metrics={},
            statement={},
        )
        session.add(version)
        session.flush()
        return model, version

    def actor(self, session: Session, principal: Principal) -> Actor:
        """Return a principal as the one who asks."""
        return actors.principal(session, principal)


@pytest.fixture
def rows() -> Rows:
    """Makers of rows."""
    return Rows()
