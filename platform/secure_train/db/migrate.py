"""Bringing a database to the schema of this version, and saying which schema it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from secure_train.db.engine import Database

_INSTALLED = Path(__file__).parent / "migrations"
_CHECKOUT = Path(__file__).parents[3] / "migrations"
SCRIPTS = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT

# Any constant will do; it only has to be the same in every process that migrates.
_LOCK_KEY = 0x7365_6375_7265


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up to a revision, in one transaction: a crash leaves the schema of before.

    Processes that start at the same time migrate one after the other.
    """
    with _config(database) as config:
        command.upgrade(config, revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision ("base": no tables at all), in one transaction. Drops what is not in it."""
    with _config(database) as config:
        command.downgrade(config, revision)


def current(database: Database) -> str | None:
    """Return the revision that the database is at; None if it is empty."""
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def head() -> str:
    """Return the newest revision that this version knows."""
    revision = ScriptDirectory(str(SCRIPTS)).get_current_head()
    if revision is None:
        raise RuntimeError(f"{SCRIPTS}: no migration found; the installation is incomplete, install it again")
    return revision


@contextmanager
def _config(database: Database) -> Iterator[Config]:
    """Give Alembic a connection of ours, in a transaction that excludes other migrations."""
    with database.write() as session:
        connection: Connection = session.connection()
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
        config.attributes["connection"] = connection
        yield config
