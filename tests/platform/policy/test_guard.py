from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from secure_train import identity
from secure_train.audit import AuditLog, Event, IdempotencyConflict, Record
from secure_train.db import Database
from secure_train.db.tables import DecisionRecord, Principal, Project
from secure_train.db.trail import Trail
from secure_train.policy import Action, Actor, Denied, Guard, PolicyError, resources

Events = Callable[..., list[Record]]
Decisions = Callable[[], list[DecisionRecord]]


@pytest.fixture
def alice(database: Database, rows: Any) -> Actor:
    """An engineer of `census`."""
    with database.write() as session:
        rows.project(session)
        return rows.actor(session, rows.principal(session))


@pytest.fixture
def admin(database: Database, rows: Any) -> Actor:
    """An administrator."""
    with database.write() as session:
        return rows.actor(session, rows.principal(session, "user:root", roles=["admin"], projects=[]))


def test_an_allowed_operation_commits_with_its_decision_and_event(
    guard: Guard, admin: Actor, decisions: Decisions, events: Events
) -> None:
    with guard.transaction() as session:
        made = guard.authorize(session, admin, Action.PROJECT_CREATE, resources.catalog("projects"))
        identity.create_project(session, "new")
    (record,) = decisions()
    assert (record.id, record.result, record.principal) == (made.id, "allow", "user:root")
    assert record.policies == ["admin-manages-people"]
    assert record.request["principal"]["roles"] == ["admin"]
    assert record.policy_hash == guard.engine.policy_hash
    (event,) = events()
    assert (event.type, event.actor, event.subject) == ("policy.decision", "user:root", "catalog:projects")
    assert event.data["decision"] == made.id


def test_a_denial_leaves_one_record_and_one_event_and_nothing_else(
    guard: Guard, database: Database, audit: Trail, alice: Actor, decisions: Decisions, events: Events
) -> None:
    def operation() -> None:
        with guard.transaction() as session:
            identity.create_project(session, "sneaky")
            audit.append(session, Event("project.created", alice.id, "project:sneaky", {}, "sneaky"))
            guard.authorize(session, alice, Action.PROJECT_CREATE, resources.catalog("projects"))

    with pytest.raises(Denied) as caught:
        operation()
    (record,) = decisions()
    assert record.id == caught.value.decision.id
    assert (record.result, record.reason, record.policies) == ("deny", "no_policy_permits", [])
    assert [event.type for event in events()] == ["policy.decision"]
    with database.read() as session:
        assert session.get(Project, "sneaky") is None


def test_a_denial_that_is_swallowed_still_denies(
    guard: Guard, database: Database, alice: Actor, decisions: Decisions
) -> None:
    def operation() -> None:
        with guard.transaction() as session:
            try:
                guard.authorize(session, alice, Action.PROJECT_CREATE, resources.catalog("projects"))
            except Denied:
                identity.create_project(session, "sneaky")

    with pytest.raises(Denied):
        operation()
    with database.read() as session:
        assert session.get(Project, "sneaky") is None
    assert [record.result for record in decisions()] == ["deny"]


class Broken(Exception):
    """The operation fails after it was allowed."""


def test_a_failed_operation_is_rolled_back_and_leaves_only_its_decision(
    guard: Guard, database: Database, admin: Actor, decisions: Decisions, events: Events
) -> None:
    def operation() -> None:
        with guard.transaction() as session:
            guard.authorize(session, admin, Action.PROJECT_CREATE, resources.catalog("projects"))
            identity.create_project(session, "half")
            raise Broken

    with pytest.raises(Broken):
        operation()
    with database.read() as session:
        assert session.get(Project, "half") is None
    (record,) = decisions()
    assert record.result == "allow"
    assert [event.data["decision"] for event in events()] == [record.id]


def test_an_allow_is_rolled_back_with_its_transaction_when_the_process_is_killed(
    guard: Guard, admin: Actor, decisions: Decisions, events: Events
) -> None:
    """What is not an Exception stands for the process going away: nothing runs after it."""

    def operation() -> None:
        with guard.transaction() as session:
            guard.authorize(session, admin, Action.PROJECT_CREATE, resources.catalog("projects"))
            session.flush()
            raise SystemExit

    with pytest.raises(SystemExit):
        operation()
    assert decisions() == []
    assert events() == []


def test_a_commit_that_fails_leaves_only_the_decision(
    guard: Guard, database: Database, audit: Trail, admin: Actor, decisions: Decisions, events: Events
) -> None:
    with database.write() as session:
        audit.append(session, Event("test.taken", "system", "x", {"n": 1}, "the-same-key"))

    def operation() -> None:
        with guard.transaction() as session:
            guard.authorize(session, admin, Action.PROJECT_CREATE, resources.catalog("projects"))
            identity.create_project(session, "half")
            audit.append(session, Event("test.taken", "system", "x", {"n": 2}, "the-same-key"))

    with pytest.raises(IdempotencyConflict):
        operation()
    with database.read() as session:
        assert session.get(Project, "half") is None
    assert [record.result for record in decisions()] == ["allow"]
    assert [event.type for event in events()] == ["test.taken", "policy.decision"]


def test_a_transaction_without_a_decision_commits_nothing(guard: Guard, database: Database) -> None:
    def operation() -> None:
        with guard.transaction() as session:
            identity.create_project(session, "sneaky")

    with pytest.raises(PolicyError, match="nothing was authorised"):
        operation()
    with database.read() as session:
        assert session.get(Project, "sneaky") is None


def test_a_session_from_elsewhere_cannot_be_authorised(
    guard: Guard, database: Database, admin: Actor, decisions: Decisions
) -> None:
    def operation() -> None:
        with database.write() as session:
            guard.authorize(session, admin, Action.PROJECT_CREATE, resources.catalog("projects"))

    with pytest.raises(PolicyError, match=r"Guard\.transaction"):
        operation()
    assert decisions() == []


def test_a_plan_records_its_denial_and_goes_on(guard: Guard, alice: Actor, decisions: Decisions) -> None:
    with guard.transaction() as session:
        made = guard.consider(session, alice, Action.PROJECT_CREATE, resources.catalog("projects"))
    assert not made.allowed
    assert [record.result for record in decisions()] == ["deny"]


def test_attributes_come_from_the_rows_as_they_are(
    guard: Guard, database: Database, rows: Any, alice: Actor
) -> None:
    with database.write() as session:
        row = session.get_one(Principal, alice.id)
        identity.update_principal(session, row, roles=["admin"], projects=[], clearance=0)
    with guard.transaction() as session:
        again = rows.actor(session, session.get_one(Principal, alice.id))
        guard.authorize(session, again, Action.PROJECT_CREATE, resources.catalog("projects"))


def test_a_list_is_filtered_item_by_item_and_recorded_once(
    guard: Guard, database: Database, rows: Any, alice: Actor, decisions: Decisions
) -> None:
    with database.write() as session:
        rows.project(session, "secret")
        owner = rows.principal(session, "user:olga", roles=["data-owner"], projects=["census", "secret"])
        mine = rows.dataset(session, owner)
        hidden = rows.dataset(session, owner, project_id="secret")
    with guard.transaction() as session:
        items = [resources.dataset(session, row) for row in (mine, hidden)]
        with pytest.raises(PolicyError, match="list itself"):
            guard.visible(session, alice, Action.DATASET_READ, items)
        guard.authorize(session, alice, Action.DATASET_READ, resources.catalog("datasets"))
        assert guard.visible(session, alice, Action.DATASET_READ, items) == [True, False]
        assert guard.visible(session, alice, Action.DATASET_READ, []) == []
    assert len(decisions()) == 1


def test_resources_are_described_from_their_rows(database: Database, rows: Any, alice: Actor) -> None:
    with database.write() as session:
        owner = rows.principal(session, "user:olga", roles=["data-owner"])
        dataset = rows.dataset(session, owner, rows=1234)
        job = rows.job(session, dataset, session.get_one(Principal, alice.id))
        model, version = rows.model(session, job)
        assert resources.dataset(session, dataset).entity.shown["rows"] == 1234
        described = resources.job(session, job)
        assert described.entity.shown["submitter"] == alice.id
        assert described.related[0].shown["owner"] == "user:olga"
        assert resources.model(session, model, version).entity.shown["submitters"] == [alice.id]
        assert resources.model(session, model).ref == f"model:{model.id}"
        assert resources.checkpoint(job).entity.shown["job"] == job.id
        assert resources.principal(session, owner).entity.shown["in"] == ["census"]


def test_a_denial_names_who_what_and_why(guard: Guard, alice: Actor) -> None:
    def operation() -> None:
        with guard.transaction() as session:
            guard.authorize(session, alice, Action.KEY_SHRED, resources.catalog("keys"))

    with pytest.raises(Denied) as caught:
        operation()
    message = str(caught.value)
    assert all(
        part in message for part in ("user:alice", "key:shred", "catalog:keys", "no_policy_permits", "dec_")
    )


def test_decisions_cost_the_same_however_many_principals_there_are(
    guard: Guard, database: Database, rows: Any, alice: Actor, log: AuditLog
) -> None:
    with database.write() as session:
        for number in range(50):
            rows.principal(session, f"user:p{number}")
    with guard.transaction() as session:
        guard.authorize(session, alice, Action.DATASET_READ, resources.catalog("datasets"))
    with database.read() as session:
        record = session.scalars(select(DecisionRecord)).one()
        assert set(record.request) == {"principal", "resource", "related", "context"}
        assert record.request["related"] == []
        assert session.scalar(select(func.count()).select_from(Principal)) == 51
