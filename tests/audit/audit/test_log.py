"""Appending, reading, proving and signing on real databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, create_engine, delete, func, insert, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from secure_train.audit import (
    AuditLog,
    Event,
    IdempotencyConflict,
    InvalidEventError,
    NoteError,
    NoteSigner,
    ProofError,
    TamperEvidence,
    UnsafeTransactionError,
    merkle,
    store,
    verify_consistency,
    verify_inclusion,
    verify_log,
)
from secure_train.audit.tables import checkpoints, events, metadata, nodes

Make = Callable[..., Event]
Fill = Callable[..., None]


def expected_root(bodies: list[bytes]) -> bytes:
    frontier = merkle.Frontier()
    for body in bodies:
        frontier.push(merkle.leaf_hash(body))
    return frontier.root()


def test_events_get_the_numbers_0_1_2_and_the_tree_of_their_bodies(
    engine: Engine, log: AuditLog, event: Make
) -> None:
    for number in range(11):
        with Session(engine) as session, session.begin():
            appended = log.append(session, event(number))
        assert (appended.seq, appended.replayed) == (number, False)
    with Session(engine) as session:
        bodies = [record.body for record in log.events(session)]
        assert log.size(session) == len(bodies) == 11
        for size in range(12):
            assert log.root(session, size) == expected_root(bodies[:size])
        assert appended.leaf_hash == merkle.leaf_hash(bodies[10])


def test_a_batch_makes_the_same_tree_as_single_appends(engine: Engine, log: AuditLog, event: Make) -> None:
    at = datetime(2025, 1, 1, tzinfo=UTC)
    made = [event(number, occurred_at=at) for number in range(21)]
    roots = []
    for sizes in ([1] * 21, [21], [5, 0, 16]):
        with engine.connect() as connection:
            start = 0
            for size in sizes:
                log.append_many(connection, made[start : start + size])
                start += size
            roots.append(log.root(connection))
            connection.rollback()
    assert len(set(roots)) == 1


def test_an_append_is_part_of_the_callers_transaction_and_a_rollback_leaves_no_gap(
    engine: Engine, log: AuditLog, event: Make, signer: NoteSigner
) -> None:
    for number in range(8):
        with Session(engine) as session:
            log.append(session, event(number))
            if number % 3 == 1:
                session.rollback()
            else:
                session.commit()
    with Session(engine) as session:
        assert [record.seq for record in log.events(session)] == [0, 1, 2, 3, 4]
        assert [record.data["number"] for record in log.events(session)] == [0, 2, 3, 5, 6]
        assert verify_log(session, signer.verifier).size == 5


def test_a_replayed_event_is_recorded_once(engine: Engine, log: AuditLog, event: Make) -> None:
    with Session(engine) as session, session.begin():
        first = log.append_many(session, [event(0), event(1), event(0)])
        assert [(appended.seq, appended.replayed) for appended in first] == [
            (0, False),
            (1, False),
            (0, True),
        ]
    with Session(engine) as session, session.begin():
        again = log.append(session, event(0, occurred_at=datetime(2030, 1, 1, tzinfo=UTC)))
        assert (again.seq, again.leaf_hash, again.replayed) == (0, first[0].leaf_hash, True)
        assert log.size(session) == 2


@pytest.mark.parametrize(
    "change", [{"actor": "user:eve"}, {"data": {}}, {"project": "other"}, {"type": "a.b"}]
)
def test_a_used_key_with_other_content_is_a_conflict_and_appends_nothing(
    engine: Engine, log: AuditLog, event: Make, change: dict[str, object]
) -> None:
    with Session(engine) as session, session.begin():
        log.append(session, event(0))
    with Session(engine) as session, session.begin():
        with pytest.raises(IdempotencyConflict, match="event 0"):
            log.append_many(session, [event(1), event(0, **change)])
        assert log.size(session) == 1


def test_an_event_keeps_the_time_it_is_given(engine: Engine, log: AuditLog, event: Make) -> None:
    at = datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC)
    before = datetime.now(UTC)
    with Session(engine) as session, session.begin():
        log.append_many(session, [event(0, occurred_at=at), event(1)])
        given, made = log.events(session)
    assert given.occurred_at == at
    assert given.time == "2024-02-29T01:02:03.000004Z"
    assert before <= made.occurred_at <= datetime.now(UTC)


def test_an_event_too_large_is_refused(engine: Engine, log: AuditLog, event: Make) -> None:
    with Session(engine) as session, pytest.raises(InvalidEventError, match="at most 1048576"):
        log.append(session, event(0, data={"text": "x" * (1 << 20)}))


def test_events_are_found_by_every_filter_and_page(
    engine: Engine, log: AuditLog, event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE", 4)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    with Session(engine) as session, session.begin():
        made = [event(n, occurred_at=start + timedelta(hours=n)) for n in range(15)]
        log.append_many(session, made)

        def found(**filters: object) -> list[int]:
            return [record.seq for record in log.events(session, **filters)]  # type: ignore[arg-type]

        assert found() == list(range(15))
        assert found(type="job.failed") == [0, 3, 6, 9, 12]
        assert found(actor="user:alice") == found(project="fraud") == [1, 3, 5, 7, 9, 11, 13]
        assert found(subject="job:job_0007") == [7]
        assert found(since=start + timedelta(hours=3), until=start + timedelta(hours=6)) == [3, 4, 5]
        assert found(type="job.failed", actor="user:bob", after=0) == [6, 12]
        assert found(after=9, limit=3) == [10, 11, 12]
        assert found(limit=8) == list(range(8))
        assert found(limit=0) == found(type="job.unknown") == []
        with pytest.raises(InvalidEventError, match="since: a time zone"):
            found(since=datetime(2025, 1, 1))


def test_proofs_from_the_database_verify_for_every_pair(engine: Engine, log: AuditLog, fill: Fill) -> None:
    fill(0, 13)
    with Session(engine) as session:
        leaves = [merkle.leaf_hash(record.body) for record in log.events(session)]
        roots = [log.root(session, size) for size in range(14)]
        for new in range(14):
            for old in range(new + 1):
                verify_consistency(old, new, log.prove_consistency(session, old, new), roots[old], roots[new])
            for seq in range(new):
                verify_inclusion(leaves[seq], seq, new, log.prove_inclusion(session, seq, new), roots[new])
        assert log.prove_inclusion(session, 4) == log.prove_inclusion(session, 4, 13)
        assert log.prove_consistency(session, 4) == log.prove_consistency(session, 4, 13)
        with pytest.raises(ProofError):
            log.prove_inclusion(session, 13)
        with pytest.raises(TamperEvidence):
            log.root(session, 14)


def test_a_checkpoint_states_the_tree_and_is_stored_once_for_a_size(
    engine: Engine, log: AuditLog, fill: Fill, signer: NoteSigner
) -> None:
    with Session(engine) as session, session.begin():
        assert log.latest_checkpoint(session) is None
        assert log.checkpoint(session, signer).root == merkle.EMPTY_ROOT
    fill(0, 5)
    with Session(engine) as session, session.begin():
        signed = log.checkpoint(session, signer)
        assert log.checkpoint(session, signer) == signed == log.latest_checkpoint(session)
        head = signed.verify(signer.verifier)
        assert (head.origin, head.size, head.root) == (log.origin, 5, log.root(session))
        assert session.execute(select(func.count()).select_from(checkpoints)).scalar_one() == 2


def test_no_checkpoint_is_signed_that_contradicts_an_earlier_one(
    engine: Engine, log: AuditLog, fill: Fill, signer: NoteSigner
) -> None:
    fill(0, 6)
    with Session(engine) as session, session.begin():
        log.checkpoint(session, signer)
    with engine.connect() as connection:
        connection.execute(delete(events).where(events.c.seq == 5))
        with pytest.raises(TamperEvidence, match="covers 6 events; 5 are left"):
            log.checkpoint(connection, signer)
    fill(6, 7)
    with engine.connect() as connection:
        connection.execute(update(nodes).where(nodes.c.number == 3).values(hash=bytes(32)))
        with pytest.raises(TamperEvidence, match="not the one that was signed"):
            log.checkpoint(connection, signer)


def test_only_the_key_of_the_log_signs_its_checkpoints(engine: Engine, log: AuditLog) -> None:
    other = NoteSigner("other.example/log", Ed25519PrivateKey.generate())
    with Session(engine) as session, pytest.raises(NoteError, match="cannot sign for the log"):
        log.checkpoint(session, other)


@pytest.mark.parametrize("origin", ["", "with space", "a+b", "two\nlines"])
def test_an_origin_that_no_checkpoint_can_carry_is_refused(origin: str) -> None:
    with pytest.raises(NoteError, match="origin"):
        AuditLog(origin)


def test_a_damaged_tree_stops_the_append(engine: Engine, log: AuditLog, event: Make, fill: Fill) -> None:
    fill(0, 3)
    with engine.connect() as connection:
        connection.execute(delete(nodes).where(nodes.c.number == 4))
        with pytest.raises(TamperEvidence, match="audit_nodes lacks level 0, position 2"):
            log.append(connection, event(3))


def test_autocommit_is_refused(engine: Engine, log: AuditLog, event: Make) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(UnsafeTransactionError, match="autocommit"):
            log.append(connection, event(0))
        assert log.size(connection) == 0


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_postgresql_isolation_with_a_stale_view_is_refused(
    postgresql_url: str, log: AuditLog, event: Make, level: str
) -> None:
    engine = create_engine(postgresql_url, isolation_level=level)
    metadata.create_all(engine)
    with engine.connect() as connection, pytest.raises(UnsafeTransactionError, match="READ COMMITTED"):
        log.append(connection, event(0))
    engine.dispose()


def test_an_unknown_database_is_refused(
    log: AuditLog, event: Make, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.connect() as connection:
        monkeypatch.setattr(connection.dialect, "name", "oracle")
        with pytest.raises(UnsafeTransactionError, match="not on oracle"):
            log.append(connection, event(0))


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_on_sqlite_a_writer_holds_the_write_lock_from_its_first_append(
    tmp_path: object, log: AuditLog, event: Make, journal: str
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/log.db", connect_args={"timeout": 0})
    metadata.create_all(engine)
    with engine.connect() as first, engine.connect() as second:
        first.exec_driver_sql(f"PRAGMA journal_mode={journal}")
        log.append_many(first, [event(0)])
        with pytest.raises(OperationalError, match="locked"):
            log.append(second, event(1))
        second.rollback()
        first.commit()
        assert log.append(second, event(1)).seq == 1
    engine.dispose()


def test_an_outage_reaches_the_caller(engine: Engine, log: AuditLog, event: Make) -> None:
    metadata.drop_all(engine)
    with Session(engine) as session, pytest.raises(Exception, match=r"audit_checkpoints|audit_events"):
        log.append(session, event(0))


def test_the_schema_refuses_what_no_log_holds(engine: Engine, fill: Fill) -> None:
    fill(0, 1)
    bad_rows = [
        insert(nodes).values(number=1, hash=b"short"),
        insert(nodes).values(number=-1, hash=bytes(32)),
        update(events).values(seq=-1),
        update(events).values(time="yesterday"),
        insert(checkpoints).values(size=-1, root=bytes(32), note="", created_at="x" * 27),
        insert(checkpoints).values(size=1, root=b"", note="", created_at="x" * 27),
    ]
    for statement in bad_rows:
        with engine.connect() as connection, pytest.raises(Exception, match=r"(?i)check constraint"):
            connection.execute(statement)
