from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, inspect, text

from secure_train.audit.tables import metadata as audit_metadata
from secure_train.db import Base, Database, migrate
from secure_train.db.tables import Job

METADATA: list[MetaData] = [Base.metadata, audit_metadata]


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """A database without any table."""
    opened = Database(database_url)
    yield opened
    opened.close()


def _described(database: Database) -> dict[str, Any]:
    """Everything that the database knows of its schema, comparable."""
    inspector = inspect(database.engine)
    described = {}
    for table in inspector.get_table_names():
        if table == "alembic_version":
            continue
        described[table] = {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": sorted(
                (key["name"], tuple(key["constrained_columns"]), key["referred_table"])
                for key in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(
                (key["name"], tuple(key["column_names"])) for key in inspector.get_unique_constraints(table)
            ),
            "checks": sorted((key["name"], key["sqltext"]) for key in inspector.get_check_constraints(table)),
            "indexes": sorted(
                (key["name"], tuple(key["column_names"]), bool(key["unique"]))
                for key in inspector.get_indexes(table)
            ),
        }
        if not database.is_sqlite:
            described[table]["comments"] = [c["comment"] for c in inspector.get_columns(table)]
    return described


def test_migrating_up_gives_every_table_and_down_leaves_none(empty: Database) -> None:
    assert migrate.current(empty) is None
    migrate.upgrade(empty)
    assert migrate.current(empty) == migrate.head()
    tables = set(inspect(empty.engine).get_table_names())
    assert tables == {name for metadata in METADATA for name in metadata.tables} | {"alembic_version"}
    migrate.upgrade(empty)
    migrate.downgrade(empty, "base")
    assert migrate.current(empty) is None
    assert inspect(empty.engine).get_table_names() == ["alembic_version"]


def test_the_migrations_make_exactly_the_schema_of_the_code(empty: Database) -> None:
    migrate.upgrade(empty)
    migrated = _described(empty)
    with empty.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_server_default": True})
        for metadata in METADATA:
            found = [change for change in compare_metadata(context, metadata) if _concerns(change, metadata)]
            assert found == []
    migrate.downgrade(empty, "base")
    for metadata in METADATA:
        metadata.create_all(empty.engine)
    assert migrated == _described(empty)


def _concerns(change: Any, metadata: MetaData) -> bool:
    """Whether a difference is more than that the other metadata's tables are not in this one."""
    if not isinstance(change, tuple) or change[0] not in {"remove_table", "remove_index"}:
        return True
    table = change[1] if change[0] == "remove_table" else change[1].table
    others = {name for other in METADATA if other is not metadata for name in other.tables}
    return table.name not in others


def test_a_migration_that_fails_leaves_the_schema_of_before(empty: Database) -> None:
    """A table of the same name is in the way: nothing of the migration may stay."""
    with empty.write() as session:
        session.execute(text("CREATE TABLE jobs (id INTEGER)"))
    with pytest.raises(Exception, match="jobs"):
        migrate.upgrade(empty)
    assert set(inspect(empty.engine).get_table_names()) == {"jobs"}
    assert migrate.current(empty) is None


def test_processes_that_start_together_migrate_once(empty: Database) -> None:
    failures: list[Exception] = []

    def start() -> None:
        try:
            migrate.upgrade(empty)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert migrate.current(empty) == migrate.head()
    assert Job.__tablename__ in inspect(empty.engine).get_table_names()
