"""Every way to change the log behind its back is found, and the place is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.orm import Session

from secure_train.audit import (
    AuditLog,
    Checkpoint,
    Event,
    NoteError,
    NoteSigner,
    Record,
    SignedCheckpoint,
    TamperEvidence,
    merkle,
    store,
    verify_log,
)
from secure_train.audit.merkle import Node
from secure_train.audit.tables import checkpoints, events, nodes

Make = Callable[..., Event]
Fill = Callable[..., None]


@pytest.fixture
def filled(
    engine: Engine, log: AuditLog, fill: Fill, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """23 events in pages of 4, with checkpoints at 8 and 20."""
    monkeypatch.setattr(store, "PAGE", 4)
    for start, end in [(0, 8), (8, 20), (20, 23)]:
        fill(start, end)
        if end != 23:
            with Session(engine) as session, session.begin():
                log.checkpoint(session, signer)


def checkpoint_at(engine: Engine, size: int) -> SignedCheckpoint:
    with engine.connect() as connection:
        row = connection.execute(select(checkpoints).where(checkpoints.c.size == size)).one()
        return store.parse_checkpoint(row)


def rewritten(connection: Connection, at: int, /, **changes: Any) -> bytes:
    """A body for event `at` that differs from the stored one."""
    body = connection.execute(select(events.c.body).where(events.c.seq == at)).scalar_one()
    record = Record.parse(body)
    fields = {name: getattr(record, name) for name in Record.__slots__}
    return Record(**(fields | changes)).body


def rebuild(connection: Connection) -> None:
    """What a forger with the whole database does after changing a body: compute columns and tree anew."""
    frontier = merkle.Frontier()
    connection.execute(delete(nodes))
    for seq, body in connection.execute(select(events.c.seq, events.c.body).order_by(events.c.seq)).all():
        row = store.event_row(Record.parse(body), body)
        connection.execute(update(events).where(events.c.seq == seq).values(**row))
        completed = frontier.push(merkle.leaf_hash(body))
        connection.execute(
            insert(nodes), [{"number": node.number, "hash": digest} for node, digest in completed]
        )


def cut_to(connection: Connection, size: int) -> None:
    """Take away every trace of the events from `size` on."""
    connection.execute(delete(events).where(events.c.seq >= size))
    connection.execute(delete(checkpoints).where(checkpoints.c.size > size))
    rebuild(connection)


@pytest.mark.usefixtures("filled")
def test_an_untouched_log_verifies_and_the_report_says_how_far_it_is_signed(
    engine: Engine, log: AuditLog, signer: NoteSigner
) -> None:
    steps: list[tuple[int, int]] = []
    with Session(engine) as session:
        report = verify_log(
            session,
            signer.verifier,
            kept=checkpoint_at(engine, 8),
            progress=lambda done, total: steps.append((done, total)),
        )
        assert report.root == log.root(session)
    assert (report.events, report.size, report.checkpoint_size, report.unsigned_tail) == (23, 23, 20, 3)
    assert steps == [(done, 23) for done in (4, 8, 12, 16, 20, 23)]


def test_an_empty_log_verifies(engine: Engine, signer: NoteSigner) -> None:
    with Session(engine) as session:
        report = verify_log(session, signer.verifier)
    assert (report.size, report.root) == (0, merkle.EMPTY_ROOT)


OTHER_VALUES = {
    "time": "2000-01-01T00:00:00.000000Z",
    "type": "job.forged",
    "actor": "user:eve",
    "subject": "job:other",
    "project": "other",
    "idempotency_key": "other",
}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("column", OTHER_VALUES)
def test_an_edited_column_is_found(engine: Engine, signer: NoteSigner, column: str) -> None:
    with engine.connect() as connection:
        connection.execute(update(events).where(events.c.seq == 13).values({column: OTHER_VALUES[column]}))
        with pytest.raises(TamperEvidence, match=f"column {column} differs") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 13


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("seq", [0, 7, 13, 22])
def test_an_edited_body_is_found(engine: Engine, signer: NoteSigner, seq: int) -> None:
    with engine.connect() as connection:
        body = rewritten(connection, seq, actor="user:eve")
        connection.execute(update(events).where(events.c.seq == seq).values(body=body, actor="user:eve"))
        with pytest.raises(TamperEvidence, match="body does not have the leaf hash") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == seq


@pytest.mark.usefixtures("filled")
def test_an_edited_body_with_its_leaf_hash_is_found(engine: Engine, signer: NoteSigner) -> None:
    with engine.connect() as connection:
        body = rewritten(connection, 13, actor="user:eve")
        connection.execute(update(events).where(events.c.seq == 13).values(body=body, actor="user:eve"))
        leaf = merkle.leaf_hash(body)
        connection.execute(update(nodes).where(nodes.c.number == Node(0, 13).number).values(hash=leaf))
        with pytest.raises(TamperEvidence, match="level 1, position 6 is not the hash") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 12


@pytest.mark.usefixtures("filled")
def test_an_edited_body_with_the_whole_tree_is_found_by_the_next_checkpoint(
    engine: Engine, signer: NoteSigner
) -> None:
    with engine.connect() as connection:
        body = rewritten(connection, 13, actor="user:eve")
        connection.execute(update(events).where(events.c.seq == 13).values(body=body))
        rebuild(connection)
        with pytest.raises(TamperEvidence, match="an event from 8 to 19 was rewritten") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 8


@pytest.mark.usefixtures("filled")
def test_a_body_that_is_no_record_is_found_even_with_the_whole_tree(
    engine: Engine, signer: NoteSigner
) -> None:
    with engine.connect() as connection:
        tree = merkle.Frontier()
        connection.execute(update(events).where(events.c.seq == 22).values(body=b'{"seq": 22}'))
        connection.execute(delete(nodes))
        for body in connection.execute(select(events.c.body).order_by(events.c.seq)).scalars().all():
            rows = [{"number": node.number, "hash": h} for node, h in tree.push(merkle.leaf_hash(body))]
            connection.execute(insert(nodes), rows)
        with pytest.raises(TamperEvidence, match="not an audit record") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 22


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("seq", [0, 4, 13])
def test_a_deleted_event_is_found(engine: Engine, signer: NoteSigner, seq: int) -> None:
    with engine.connect() as connection:
        connection.execute(delete(events).where(events.c.seq == seq))
        with pytest.raises(TamperEvidence, match=f"event {seq} is missing") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == seq


@pytest.mark.usefixtures("filled")
def test_a_deleted_event_with_the_later_ones_moved_up_is_found(engine: Engine, signer: NoteSigner) -> None:
    with engine.connect() as connection:
        connection.execute(delete(events).where(events.c.seq == 13))
        for seq in range(14, 23):
            connection.execute(update(events).where(events.c.seq == seq).values(seq=seq - 1))
        with pytest.raises(TamperEvidence) as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 13


@pytest.mark.usefixtures("filled")
def test_an_inserted_event_is_found(engine: Engine, signer: NoteSigner) -> None:
    with engine.connect() as connection:
        for seq in range(22, 12, -1):
            connection.execute(update(events).where(events.c.seq == seq).values(seq=seq + 1))
        body = rewritten(connection, 12, seq=13, idempotency_key="forged")
        connection.execute(insert(events).values(**store.event_row(Record.parse(body), body)))
        with pytest.raises(TamperEvidence) as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 13


@pytest.mark.usefixtures("filled")
def test_an_event_planted_behind_the_end_is_found(engine: Engine, signer: NoteSigner) -> None:
    with engine.connect() as connection:
        body = rewritten(connection, 22, seq=23, idempotency_key="forged")
        connection.execute(insert(events).values(**store.event_row(Record.parse(body), body)))
        with pytest.raises(TamperEvidence) as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 23


@pytest.mark.usefixtures("filled")
def test_reordered_events_are_found(engine: Engine, signer: NoteSigner) -> None:
    with engine.connect() as connection:
        for old, new in [(13, 99), (14, 13), (99, 14)]:
            connection.execute(update(events).where(events.c.seq == old).values(seq=new))
        with pytest.raises(TamperEvidence) as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 13


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("left", "reason"), [(22, "audit_nodes has hashes"), (19, "checkpoint covers 20")])
def test_a_tail_taken_away_is_found(engine: Engine, signer: NoteSigner, left: int, reason: str) -> None:
    with engine.connect() as connection:
        connection.execute(delete(events).where(events.c.seq >= left))
        with pytest.raises(TamperEvidence, match=reason) as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == left


@pytest.mark.usefixtures("filled")
def test_a_log_rolled_back_without_a_trace_is_found_by_the_kept_checkpoint(
    engine: Engine, signer: NoteSigner
) -> None:
    kept = checkpoint_at(engine, 20)
    with engine.connect() as connection:
        cut_to(connection, 15)
        assert verify_log(connection, signer.verifier).size == 15
        with pytest.raises(TamperEvidence, match="the kept checkpoint covers 20 events; only 15") as found:
            verify_log(connection, signer.verifier, kept=kept)
    assert found.value.index == 15


@pytest.mark.usefixtures("filled")
def test_a_forked_log_signed_with_the_real_key_is_found_by_the_kept_checkpoint(
    engine: Engine, log: AuditLog, event: Make, signer: NoteSigner
) -> None:
    kept = checkpoint_at(engine, 20)
    with engine.connect() as connection:
        cut_to(connection, 15)
        log.append_many(connection, [event(number, actor="user:eve") for number in range(15, 30)])
        log.checkpoint(connection, signer)
        assert verify_log(connection, signer.verifier).unsigned_tail == 0
        with pytest.raises(TamperEvidence, match="not those of the kept checkpoint") as found:
            verify_log(connection, signer.verifier, kept=kept)
    # Up to 8 the fork's own checkpoint agrees with what was signed before.
    assert found.value.index == 8


@pytest.mark.usefixtures("filled")
def test_every_edited_or_missing_node_is_found(engine: Engine, signer: NoteSigner) -> None:
    stored = [Node(level, at) for level in range(5) for at in range(23 >> level)]
    for node in stored:
        for change in (update(nodes).values(hash=bytes(32)), delete(nodes)):
            with engine.connect() as connection:
                assert connection.execute(change.where(nodes.c.number == node.number)).rowcount == 1
                with pytest.raises(TamperEvidence) as found:
                    verify_log(connection, signer.verifier)
            assert found.value.index == node.first_leaf


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("node", [Node(0, 23), Node(0, 500), Node(3, 2)])
def test_a_planted_node_is_found(engine: Engine, signer: NoteSigner, node: Node) -> None:
    with engine.connect() as connection:
        connection.execute(insert(nodes).values(number=node.number, hash=bytes(32)))
        with pytest.raises(TamperEvidence, match="does not hold") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 23


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("column", ["size", "root", "note"])
def test_an_edited_checkpoint_is_found(engine: Engine, signer: NoteSigner, column: str) -> None:
    note = checkpoint_at(engine, 20).note
    change = {"size": 21, "root": bytes(32), "note": note.replace("\n20\n", "\n21\n")}[column]
    with engine.connect() as connection:
        connection.execute(update(checkpoints).where(checkpoints.c.size == 20).values({column: change}))
        with pytest.raises(TamperEvidence, match=r"stored checkpoint of 2[01] events") as found:
            verify_log(connection, signer.verifier)
    # The checkpoint at 8 still confirms what came before.
    assert found.value.index == 8


@pytest.mark.usefixtures("filled")
def test_a_checkpoint_forged_in_all_its_columns_is_found(engine: Engine, signer: NoteSigner) -> None:
    forger = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    forged = SignedCheckpoint.sign(Checkpoint(signer.name, 20, bytes(32)), forger)
    with engine.connect() as connection:
        row = {"root": forged.root, "note": forged.note}
        connection.execute(update(checkpoints).where(checkpoints.c.size == 20).values(row))
        with pytest.raises(TamperEvidence, match="none of which is a trusted key") as found:
            verify_log(connection, signer.verifier)
    assert found.value.index == 8


@pytest.mark.usefixtures("filled")
def test_after_a_key_rotation_both_keys_are_needed(engine: Engine, log: AuditLog, signer: NoteSigner) -> None:
    successor = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    with Session(engine) as session, session.begin():
        log.checkpoint(session, successor)
        assert verify_log(session, [signer.verifier, successor.verifier]).checkpoint_size == 23
        with pytest.raises(TamperEvidence) as found:
            verify_log(session, successor.verifier)
    assert found.value.index == 0


@pytest.mark.usefixtures("filled")
def test_a_kept_checkpoint_that_the_key_did_not_sign_is_refused(engine: Engine, signer: NoteSigner) -> None:
    stranger = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    kept = SignedCheckpoint.sign(Checkpoint(signer.name, 8, bytes(32)), stranger)
    with Session(engine) as session, pytest.raises(NoteError):
        verify_log(session, signer.verifier, kept=kept)
