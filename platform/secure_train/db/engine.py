"""Engine and transactions on SQLite and PostgreSQL.

Every unit of work is one transaction. A writing transaction on SQLite starts with ``BEGIN IMMEDIATE``: it
takes the single write lock at once, so that what it reads cannot be overtaken before it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.orm import Session

SQLITE_BUSY_SECONDS = 30


class Database:
    """A handle on the control plane's database, safe to share between threads."""

    def __init__(self, url: str | URL) -> None:
        self.url = make_url(url)
        if self.url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise ValueError(
                f"database {self.url.render_as_string()}: use a sqlite:// or postgresql+psycopg:// URL"
            )
        self.engine = self._create()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    def _create(self) -> Engine:
        if not self.is_sqlite:
            # hide_parameters: errors, which get logged, must not quote what was to be stored.
            return create_engine(
                self.url, pool_pre_ping=True, pool_size=10, max_overflow=20, hide_parameters=True
            )
        engine = create_engine(self.url, connect_args={"timeout": SQLITE_BUSY_SECONDS}, hide_parameters=True)

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: object) -> None:
            # The driver must not open transactions by itself: `_begin` below decides how they start.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_SECONDS * 1000}")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            write = connection.get_execution_options().get("secure_train_write", True)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that commits at the end of the block, or rolls back if it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction for reading only; nothing in it is ever committed."""
        with (
            self.engine.connect().execution_options(secure_train_write=False) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()
