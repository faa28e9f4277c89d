from __future__ import annotations

from typing import Any, get_args

import pytest
from sqlalchemy import select

from secure_train import identity
from secure_train.db import Database
from secure_train.db.tables import Principal, Project, ProjectMember
from secure_train.identity import AlreadyExists, InvalidIdentity, Role
from secure_train.wire.people import RoleName


def _projects(database: Database, principal: str) -> set[str]:
    with database.read() as session:
        query = select(ProjectMember.project_id).where(ProjectMember.principal_id == principal)
        return set(session.scalars(query))


def test_the_roles_are_those_of_the_messages() -> None:
    assert {role.value for role in Role} == set(get_args(RoleName))


def test_a_principal_is_created_as_asked(database: Database) -> None:
    with database.write() as session:
        identity.create_project(session, "census")
        identity.create_principal(
            session,
            "service:ci",
            department="ml",
            clearance=2,
            roles=["auditor", "engineer"],
            projects=["census"],
        )
    with database.read() as session:
        row = session.get_one(Principal, "service:ci")
        assert (row.kind, row.department, row.clearance, row.active) == ("service", "ml", 2, True)
        assert row.roles == ["engineer", "auditor"]
    assert _projects(database, "service:ci") == {"census"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"principal_id": "alice"}, "id"),
        ({"principal_id": "robot:alice"}, "id"),
        ({"principal_id": "user:Alice"}, "id"),
        ({"principal_id": "user:a\n"}, "id"),
        ({"principal_id": "job:job_1"}, "id"),
        ({"principal_id": "user:" + "a" * 64}, "id"),
        ({"roles": ["root"]}, "roles"),
        ({"clearance": 4}, "clearance"),
        ({"clearance": -1}, "clearance"),
        ({"department": "x" * 65}, "department"),
        ({"projects": ["nowhere"]}, "projects"),
    ],
)
def test_a_principal_that_is_not_right_is_not_created(
    database: Database, change: dict[str, Any], message: str
) -> None:
    values = {"principal_id": "user:bob"} | change

    def create() -> None:
        with database.write() as session:
            identity.create_principal(session, **values)

    with pytest.raises(InvalidIdentity, match=message):
        create()
    with database.read() as session:
        assert session.scalars(select(Principal)).all() == []


def test_an_id_is_taken_once(database: Database) -> None:
    with database.write() as session:
        identity.create_project(session, "census")
        identity.create_principal(session, "user:bob")
        with pytest.raises(AlreadyExists):
            identity.create_project(session, "census")
        with pytest.raises(AlreadyExists):
            identity.create_principal(session, "user:bob")


@pytest.mark.parametrize(("name", "limit"), [("Census", 1), ("-a", 1), ("", 1), ("a" * 64, 1), ("ok", 0)])
def test_a_project_that_is_not_right_is_not_created(database: Database, name: str, limit: int) -> None:
    with database.write() as session, pytest.raises(InvalidIdentity):
        identity.create_project(session, name, limit)
    with database.read() as session:
        assert session.scalars(select(Project)).all() == []


def test_an_update_changes_only_what_is_given(database: Database, rows: Any) -> None:
    with database.write() as session:
        rows.project(session)
        rows.project(session, "other")
        rows.principal(session, department="ml")
    with database.write() as session:
        identity.update_principal(session, session.get_one(Principal, "user:alice"), clearance=0)
    with database.read() as session:
        row = session.get_one(Principal, "user:alice")
        assert (row.clearance, row.department, row.roles, row.active) == (0, "ml", ["engineer"], True)
    assert _projects(database, "user:alice") == {"census"}
    with database.write() as session:
        row = session.get_one(Principal, "user:alice")
        identity.update_principal(session, row, roles=[], projects=["other"], department="")
    with database.read() as session:
        row = session.get_one(Principal, "user:alice")
        assert (row.department, row.roles) == ("", [])
    assert _projects(database, "user:alice") == {"other"}


def test_an_update_that_is_not_right_changes_nothing(database: Database, rows: Any) -> None:
    with database.write() as session:
        rows.project(session)
        principal = rows.principal(session)
        with pytest.raises(InvalidIdentity, match="projects"):
            identity.update_principal(session, principal, clearance=0, projects=["nowhere"])
        with pytest.raises(InvalidIdentity, match="roles"):
            identity.update_principal(session, principal, roles=["root"], projects=[])
    assert _projects(database, "user:alice") == {"census"}
    with database.read() as session:
        assert session.get_one(Principal, "user:alice").clearance == 3


def test_the_first_administrator_is_made_once(database: Database) -> None:
    with database.write() as session:
        made = identity.bootstrap_admin(session)
    assert made is not None
    principal, secret = made
    assert (principal.id, principal.roles) == ("user:admin", ["admin"])
    with database.write() as session:
        assert identity.authenticate(session, secret).id == "user:admin"
        assert identity.bootstrap_admin(session) is None


def test_no_administrator_is_made_where_there_are_principals(database: Database, rows: Any) -> None:
    with database.write() as session:
        rows.project(session)
        rows.principal(session, active=False)
        assert identity.bootstrap_admin(session) is None
