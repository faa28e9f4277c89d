"""The log itself: append, read, prove and sign, always inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.orm import Session

from secure_train.audit import merkle, store
from secure_train.audit.checkpoint import Checkpoint, SignedCheckpoint
from secure_train.audit.errors import IdempotencyConflict, InvalidEventError, NoteError, TamperEvidence
from secure_train.audit.event import MAX_BODY_BYTES, Event, Record, rfc3339
from secure_train.audit.notes import NoteSigner
from secure_train.audit.tables import checkpoints


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an event stands in the log.

    Attributes:
        seq: sequence number, from 0.
        leaf_hash: 32-byte RFC 9162 leaf hash.
        replayed: True if the event had been recorded before and nothing was appended.
    """

    seq: int
    leaf_hash: bytes
    replayed: bool


class AuditLog:
    """Append-only Merkle log in three tables of an SQL database.

    No method commits: events become durable, and visible, with the state that they tell of. A writer holds
    the log's lock from its first append until its transaction ends: append last, after taking any row locks.

    Args:
        origin: unique name of this log, a schema-less URL such as "example.com/secure-train/audit"; the key
            that signs its checkpoints carries the same name.
    """

    def __init__(self, origin: str) -> None:
        # The origin is line 1 of every checkpoint: held to the same rules as a key name.
        if not origin or "+" in origin or any(char.isspace() or ord(char) < 0x20 for char in origin):
            raise NoteError(f"the origin {origin!r} must be non-empty, without spaces and without '+'")
        self.origin = origin

    def append(self, session: Session | Connection, event: Event) -> Appended:
        """Append one event; see `append_many`."""
        return self.append_many(session, [event])[0]

    def append_many(self, session: Session | Connection, new_events: Sequence[Event]) -> list[Appended]:
        """Append events in order. O(log n) reads, and amortised two node hashes written for each event.

        An event whose idempotency key is already in the log with the same content (time apart) is not
        appended again: the place of the first is returned, with `replayed` set.

        Raises:
            IdempotencyConflict: the key is in the log with other content; nothing was written.
            InvalidEventError: an event is too large.
            UnsafeTransactionError: autocommit, or an isolation level other than READ COMMITTED on PostgreSQL.
            TamperEvidence: the stored tree is damaged.
        """
        if not new_events:
            return []
        connection = store.connection_of(session)
        store.take_write_lock(connection)
        keys = list(dict.fromkeys(event.idempotency_key for event in new_events))
        size, known = store.size_and_replays(connection, keys)
        frontier = store.load_frontier(connection, size)
        now = rfc3339(datetime.now(UTC), "now")
        rows, completed, results = [], [], []
        for event in new_events:
            first = known.get(event.idempotency_key)
            if first is not None:
                results.append(_replay(event, first))
                continue
            time = now if event.occurred_at is None else rfc3339(event.occurred_at, "occurred_at")
            record = Record.of(event, frontier.size, time)
            body = record.body
            if len(body) > MAX_BODY_BYTES:
                raise InvalidEventError(
                    f"data: the record has {len(body)} bytes; at most {MAX_BODY_BYTES} are kept"
                )
            known[event.idempotency_key] = record
            rows.append(store.event_row(record, body))
            results.append(Appended(record.seq, merkle.leaf_hash(body), replayed=False))
            completed += frontier.push(results[-1].leaf_hash)
        if rows:
            store.insert_records(connection, rows, completed)
        return results

    def size(self, session: Session | Connection) -> int:
        """Number of events that the caller's transaction sees."""
        return store.log_size(store.connection_of(session))

    def root(self, session: Session | Connection, size: int | None = None) -> bytes:
        """Root hash at `size` events; now, unless given. O(log n) reads.

        Raises:
            TamperEvidence: a node is missing, or `size` is beyond the log.
        """
        connection = store.connection_of(session)
        at = store.log_size(connection) if size is None else size
        return merkle.root_of(at, store.node_reader(connection))

    def events(
        self,
        session: Session | Connection,
        *,
        type: str | None = None,  # noqa: A002 - the field is called so in the record
        actor: str | None = None,
        subject: str | None = None,
        project: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Record]:
        """Matching records in log order, read a page at a time.

        Args:
            session: where to read.
            type, actor, subject, project: exact values to match.
            since: aware datetime, inclusive.
            until: aware datetime, exclusive.
            after: continue behind this sequence number (keyset paging).
            limit: most records to return.

        Raises:
            TamperEvidence: a stored body is not a record.
            InvalidEventError: `since` or `until` has no time zone.
        """
        where = store.EventFilter(type, actor, subject, project, since, until)
        pages = store.event_pages(store.connection_of(session), where, after=after, end=None, limit=limit)
        return (store.parse_stored(row.seq, row.body) for page in pages for row in page)

    def prove_inclusion(
        self, session: Session | Connection, seq: int, size: int | None = None
    ) -> tuple[bytes, ...]:
        """RFC 9162 inclusion proof of event `seq` in the tree of the first `size` events (all, unless given).

        Raises:
            ProofError: no such event among the first `size`.
            TamperEvidence: a node is missing, or `size` is beyond the log.
        """
        connection = store.connection_of(session)
        at = store.log_size(connection) if size is None else size
        return merkle.inclusion_proof(seq, at, store.node_reader(connection))

    def prove_consistency(
        self, session: Session | Connection, old: int, new: int | None = None
    ) -> tuple[bytes, ...]:
        """RFC 9162 proof that the tree of `new` events (all, unless given) extends that of `old`.

        Raises:
            ProofError: not 0 <= old <= new.
            TamperEvidence: a node is missing, or `new` is beyond the log.
        """
        connection = store.connection_of(session)
        at = store.log_size(connection) if new is None else new
        return merkle.consistency_proof(old, at, store.node_reader(connection))

    def checkpoint(self, session: Session | Connection, signer: NoteSigner) -> SignedCheckpoint:
        """Sign and store the tree as it stands; the stored checkpoint is returned if this size has one.

        Hand it out after the commit only: a rollback may let other events take the places it signed.

        Raises:
            NoteError: the signer's name is not this log's origin.
            TamperEvidence: the tree does not extend the newest stored checkpoint. Nothing is signed then.
        """
        connection = store.connection_of(session)
        store.take_write_lock(connection)
        latest = self.latest_checkpoint(connection)
        signed = self.sign_head(connection, signer)
        if latest is not None and latest.size == signed.size:
            return latest
        row = {
            "size": signed.size,
            "root": signed.root,
            "note": signed.note,
            "created_at": rfc3339(datetime.now(UTC), "created_at"),
        }
        connection.execute(insert(checkpoints), row)
        return signed

    def sign_head(self, session: Session | Connection, signer: NoteSigner) -> SignedCheckpoint:
        """Sign the tree as it stands and store nothing. Not after appends of the caller's that may roll back.

        Raises:
            NoteError: the signer's name is not this log's origin.
            TamperEvidence: the tree does not extend the newest stored checkpoint. Nothing is signed then.
        """
        connection = store.connection_of(session)
        read = store.node_reader(connection)
        latest = self.latest_checkpoint(connection)
        size = store.log_size(connection)
        if latest is not None:
            if latest.size > size:
                raise TamperEvidence(
                    index=size, reason=f"the newest checkpoint covers {latest.size} events; {size} are left"
                )
            if merkle.root_of(latest.size, read) != latest.root:
                raise TamperEvidence(
                    index=0, reason=f"the tree at {latest.size} events is not the one that was signed"
                )
        head = Checkpoint(self.origin, size, merkle.root_of(size, read))
        return SignedCheckpoint.sign(head, signer)

    def latest_checkpoint(self, session: Session | Connection) -> SignedCheckpoint | None:
        """The newest stored checkpoint, as it is stored: whoever relies on it calls its `verify`.

        Raises:
            TamperEvidence: the stored note is not a checkpoint, or not that of its row.
        """
        query = select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)
        row = store.connection_of(session).execute(query).one_or_none()
        return None if row is None else store.parse_checkpoint(row)


def _replay(event: Event, first: Record) -> Appended:
    body = first.body
    if Record.of(event, first.seq, first.time).body != body:
        raise IdempotencyConflict(
            f'the idempotency key "{event.idempotency_key}" already names event {first.seq} ({first.type} on '
            f"{first.subject}) with other content; use a new key for a new event"
        )
    return Appended(first.seq, merkle.leaf_hash(body), replayed=True)
