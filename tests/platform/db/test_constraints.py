"""What the database itself refuses, whatever a program asks of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError, StatementError

from secure_train.db import Database
from secure_train.db.tables import (
    ApiToken,
    BudgetAllocation,
    BudgetCharge,
    BudgetReservation,
    Dataset,
    DatasetVersion,
    DecisionRecord,
    Job,
    JobCheckpoint,
    JobTicket,
    ModelVersion,
    Principal,
    Project,
)


@pytest.fixture
def filled(database: Database, rows: Any) -> Database:
    """A database with one row of each kind that has constraints."""
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with database.write() as session:
        rows.project(session)
        owner = rows.principal(session)
        job = rows.job(session, rows.dataset(session, owner), owner)
        rows.model(session, job)
        held = {"job_id": job.id, "dataset_id": job.dataset_id, "epsilon": 3.0, "delta": 1e-5}
        held |= {"events": [], "spent_events": []}
        session.add(BudgetAllocation(dataset_id=job.dataset_id, project_id="census", epsilon=1.0))
        session.add(BudgetReservation(**held))
        session.flush()
        session.add_all(
            [
                BudgetCharge(
                    id="c1", job_id=job.id, kind="training", noise_epoch=0, first_step=0, last_step=5,
                    event={},
                ),
                ApiToken(id="t1", principal_id=owner.id, sha256=b"x" * 32, expires_at=moment),
                JobTicket(sha256=b"y" * 32, job_id=job.id, attempt=1, expires_at=moment),
                JobCheckpoint(
                    job_id=job.id, noise_epoch=0, step=5, manifest_id="m", digest="d", state_digest="0" * 64,
                    logical_bytes=1, stored_bytes=1, seconds=0.1,
                ),
                DecisionRecord(
                    id="d1", principal="user:alice", action="job:read", resource="job:j", result="allow",
                    reason="r", policies=[], errors=[], request={}, policy_hash="h", schema_hash="h",
                    latency_us=1,
                ),
            ]
        )  # fmt: skip
    return database


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (Project, {"max_running_jobs": 0}),
        (Principal, {"kind": "robot"}),
        (Principal, {"clearance": 4}),
        (Principal, {"clearance": -1}),
        (ApiToken, {"sha256": b"short"}),
        (ApiToken, {"principal_id": "user:nobody"}),
        (Dataset, {"classification": 9}),
        (Dataset, {"unit": "user"}),
        (Dataset, {"budget_epsilon": 0.0}),
        (Dataset, {"budget_delta": 0.0}),
        (Dataset, {"budget_delta": 1.0}),
        (Dataset, {"composition": "hope"}),
        (Dataset, {"owner_id": "user:nobody"}),
        (DatasetVersion, {"training_rows": 0}),
        (DatasetVersion, {"holdout_rows": -1}),
        (Job, {"state": "dreaming"}),
        (Job, {"step": -1}),
        (Job, {"step": 101}),
        (Job, {"steps": 0}),
        (Job, {"noise_multiplier": 0.0}),
        (Job, {"sampling_rate": 0.0}),
        (Job, {"sampling_rate": 1.1}),
        (Job, {"attempt": -1}),
        (Job, {"dataset_version": 2}),
        (Job, {"submitted_by": "user:nobody"}),
        (JobTicket, {"sha256": b"short"}),
        (JobCheckpoint, {"state": "fine"}),
        (JobCheckpoint, {"state_digest": "0"}),
        (ModelVersion, {"stage": "live"}),
        (ModelVersion, {"version": 0}),
        (DecisionRecord, {"result": "maybe"}),
        (BudgetReservation, {"state": "lost"}),
        (BudgetReservation, {"epsilon": 0.0}),
        (BudgetReservation, {"delta": 0.0}),
        (BudgetReservation, {"spent_epsilon": -0.1}),
        (BudgetReservation, {"spent_epsilon": 3.1}),
        (BudgetReservation, {"spent_delta": 1.1e-5}),
        (BudgetCharge, {"kind": "gift"}),
        (BudgetCharge, {"first_step": -1}),
        (BudgetCharge, {"first_step": 6}),
        (BudgetAllocation, {"epsilon": 0.0}),
    ],
)
def test_a_value_out_of_range_is_refused(filled: Database, table: type, values: dict[str, Any]) -> None:
    _refused(filled, lambda session: session.execute(update(table).values(**values)))


def _refused(database: Database, action: Callable[[Any], object]) -> None:
    def run() -> None:
        with database.write() as session:
            action(session)

    with pytest.raises(IntegrityError):
        run()


def test_a_charge_cannot_be_recorded_twice(filled: Database) -> None:
    def again(session: Any) -> None:
        job = session.query(Job).one()
        session.add(
            BudgetCharge(
                id="c2", job_id=job.id, kind="training", noise_epoch=0, first_step=0, last_step=9, event={}
            )
        )
        session.flush()

    _refused(filled, again)


def test_a_submission_key_cannot_be_used_twice(filled: Database, rows: Any) -> None:
    def again(session: Any) -> None:
        job = session.query(Job).one()
        owner = session.get_one(Principal, job.submitted_by)
        rows.job(
            session, session.get_one(Dataset, job.dataset_id), owner, idempotency_key=job.idempotency_key
        )

    _refused(filled, again)


def test_a_time_without_a_zone_is_refused_and_others_come_back_in_utc(filled: Database) -> None:
    def naive() -> None:
        with filled.write() as session:
            session.execute(update(Job).values(started_at=datetime(2030, 1, 1)))

    with pytest.raises(StatementError, match="time zone"):
        naive()
    with filled.read() as session:
        assert session.query(ApiToken).one().expires_at == datetime(2030, 1, 1, tzinfo=UTC)
