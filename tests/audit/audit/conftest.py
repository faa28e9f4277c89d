"""A log on each database, with deterministic keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from secure_train.audit import AuditLog, Event, NoteSigner
from secure_train.audit.tables import metadata

ORIGIN = "example.com/secure-train/audit"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def signer() -> NoteSigner:
    return NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture(scope="session")
def log() -> AuditLog:
    return AuditLog(ORIGIN)


@pytest.fixture(scope="session")
def event() -> Callable[..., Event]:
    """An event told apart by its number."""

    def make(number: int, **changes: object) -> Event:
        fields: dict[str, object] = {
            "type": "job.submitted" if number % 3 else "job.failed",
            "actor": f"user:{'alice' if number % 2 else 'bob'}",
            "subject": f"job:job_{number:04}",
            "data": {"number": number, "epsilon": number / 7},
            "idempotency_key": f"key-{number}",
            "project": "fraud" if number % 2 else None,
        }
        return Event(**(fields | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def fill(engine: Engine, log: AuditLog, event: Callable[..., Event]) -> Callable[..., None]:
    """Append the events [start, end) in one committed transaction."""

    def run(start: int, end: int, **changes: object) -> None:
        with Session(engine) as session, session.begin():
            log.append_many(session, [event(number, **changes) for number in range(start, end)])

    return run
