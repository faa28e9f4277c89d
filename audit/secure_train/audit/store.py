"""The SQL: locking, reading and writing the three tables inside a transaction that belongs to the caller."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, false, func, insert, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from secure_train.audit.checkpoint import SignedCheckpoint
from secure_train.audit.errors import NoteError, TamperEvidence, UnsafeTransactionError
from secure_train.audit.event import Record, rfc3339
from secure_train.audit.merkle import Frontier, Node, NodeReader, peaks_of
from secure_train.audit.tables import checkpoints, events, nodes

PAGE = 1000
_MAX_PARAMETERS = 10_000  # SQLite binds at most 32,766 values in a statement, PostgreSQL 65,535
_LOCK_KEY = int.from_bytes(sha256(b"secure-train audit append").digest()[:8], signed=True)
_LOCK = text("SELECT current_setting('transaction_isolation'), pg_advisory_xact_lock(:key)")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to read; every field given must match, none given means all.

    Attributes:
        type, actor, subject, project: exact values.
        since: aware datetime, inclusive.
        until: aware datetime, exclusive.
    """

    type: str | None = None
    actor: str | None = None
    subject: str | None = None
    project: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def exact(self) -> dict[str, str]:
        """The fields that must be equal, by name."""
        fields = {"type": self.type, "actor": self.actor, "subject": self.subject, "project": self.project}
        return {name: value for name, value in fields.items() if value is not None}

    def to_json(self) -> dict[str, str]:
        """The filter as it stands in the header of an export."""
        bounds = {"since": self.since, "until": self.until}
        return self.exact() | {name: rfc3339(at, name) for name, at in bounds.items() if at is not None}

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter as SQL conditions on the events table."""
        conditions: list[ColumnElement[bool]] = [
            events.c[name] == value for name, value in self.exact().items()
        ]
        if self.since is not None:
            conditions.append(events.c.time >= rfc3339(self.since, "since"))
        if self.until is not None:
            conditions.append(events.c.time < rfc3339(self.until, "until"))
        return conditions


def connection_of(session: Session | Connection) -> Connection:
    """The connection that carries the caller's transaction."""
    return session.connection() if isinstance(session, Session) else session


def take_write_lock(connection: Connection) -> None:
    """Become the only writer of the log until the caller's transaction ends.

    PostgreSQL: an advisory lock, then every statement must see what earlier holders committed, which READ
    COMMITTED gives and stricter levels do not. SQLite: a write that changes nothing takes the single write
    lock of the database, if BEGIN IMMEDIATE has not yet.

    Raises:
        UnsafeTransactionError: autocommit, another isolation level, or another database.
    """
    dialect = connection.dialect
    if dialect.name == "postgresql":
        driver = connection.connection.dbapi_connection
        if driver is None or dialect.detect_autocommit_setting(driver):
            raise UnsafeTransactionError("the connection is in autocommit mode; append inside a transaction")
        isolation = connection.execute(_LOCK, {"key": _LOCK_KEY}).one()[0]
        if isolation != "read committed":
            raise UnsafeTransactionError(
                f'the transaction is "{isolation}"; appends to the audit log need READ COMMITTED'
            )
    elif dialect.name == "sqlite":
        connection.execute(update(checkpoints).where(false()).values(size=checkpoints.c.size))
        if not getattr(connection.connection.dbapi_connection, "in_transaction", False):
            raise UnsafeTransactionError("the connection is in autocommit mode; append inside a transaction")
    else:
        raise UnsafeTransactionError(f"the audit log runs on PostgreSQL and SQLite, not on {dialect.name}")


def log_size(connection: Connection) -> int:
    """Number of events: the highest sequence number plus one."""
    highest = connection.execute(select(func.max(events.c.seq))).scalar_one()
    return 0 if highest is None else int(highest) + 1


def size_and_replays(connection: Connection, keys: Sequence[str]) -> tuple[int, dict[str, Record]]:
    """Size of the log, and the records that already carry one of the idempotency keys."""
    replays: dict[str, Record] = {}
    for start in range(0, len(keys), _MAX_PARAMETERS):
        wanted = keys[start : start + _MAX_PARAMETERS]
        rows = connection.execute(
            select(events.c.seq, events.c.idempotency_key, events.c.body).where(
                events.c.idempotency_key.in_(wanted)
            )
        )
        for seq, key, body in rows:
            replays[key] = parse_stored(seq, body)
    return log_size(connection), replays


def load_frontier(connection: Connection, size: int) -> Frontier:
    """The right edge of the stored tree."""
    peaks = peaks_of(size)
    hashes = node_reader(connection)(peaks)
    return Frontier(size, [hashes[peak] for peak in peaks])


def insert_records(
    connection: Connection, rows: Sequence[Mapping[str, Any]], completed: Sequence[tuple[Node, bytes]]
) -> None:
    """Write event rows and the subtrees that they complete."""
    connection.execute(insert(events), list(rows))
    connection.execute(
        insert(nodes),
        [{"number": node.number, "hash": digest} for node, digest in completed],
    )


def event_row(record: Record, body: bytes) -> dict[str, Any]:
    """The columns of `record`, whose canonical form is `body`, in the order of the table."""
    return {
        "seq": record.seq,
        "time": record.time,
        "type": record.type,
        "actor": record.actor,
        "subject": record.subject,
        "project": record.project,
        "idempotency_key": record.idempotency_key,
        "body": body,
    }


def parse_stored(seq: int, body: bytes) -> Record:
    """Read a stored body.

    Raises:
        TamperEvidence: it is not a record that this log wrote.
    """
    try:
        record = Record.parse(body)
    except ValueError as error:
        raise TamperEvidence(index=seq, reason=f"the stored body is not an audit record: {error}") from error
    if record.seq != seq:
        raise TamperEvidence(index=seq, reason=f"the stored body says that it is event {record.seq}")
    return record


def node_reader(connection: Connection) -> NodeReader:
    """Look-up of stored subtrees. It raises TamperEvidence where one is missing."""

    def read(wanted: Collection[Node]) -> Mapping[Node, bytes]:
        ordered = sorted(wanted)
        found = _stored_hashes(connection, ordered)
        for node in ordered:
            if node not in found:
                raise TamperEvidence(
                    index=node.first_leaf,
                    reason=f"audit_nodes lacks level {node.level}, position {node.position}",
                )
        return found

    return read


def event_pages(
    connection: Connection,
    where: EventFilter,
    *,
    after: int | None,
    end: int | None,
    limit: int | None = None,
) -> Iterator[Sequence[Row[Any]]]:
    """Matching rows in log order, a page at a time, so that memory stays flat.

    Args:
        connection: any connection, in a transaction or not.
        where: which events.
        after: start behind this sequence number.
        end: stop before this sequence number.
        limit: most rows to return in all.
    """
    query = select(events).where(*where.conditions()).order_by(events.c.seq)
    if end is not None:
        query = query.where(events.c.seq < end)
    left = limit
    while left is None or left > 0:
        page_size = PAGE if left is None else min(PAGE, left)
        page = query if after is None else query.where(events.c.seq > after)
        rows = connection.execute(page.limit(page_size)).all()
        if rows:
            yield rows
        if len(rows) < page_size:
            return
        after = rows[-1].seq
        left = None if left is None else left - len(rows)


def nodes_completed_by(connection: Connection, first: int, end: int) -> dict[Node, bytes]:
    """Stored subtrees whose last leaf is one of the events [first, end)."""
    levels = range(end.bit_length())
    return _stored_hashes(
        connection, [Node(level, at) for level in levels for at in range(first >> level, end >> level)]
    )


def _stored_hashes(connection: Connection, wanted: Sequence[Node]) -> dict[Node, bytes]:
    """The hashes of those nodes that are stored."""
    by_number = {node.number: node for node in wanted}
    numbers = list(by_number)
    found: dict[Node, bytes] = {}
    for start in range(0, len(numbers), _MAX_PARAMETERS):
        chosen = nodes.c.number.in_(numbers[start : start + _MAX_PARAMETERS])
        rows = connection.execute(select(nodes.c.number, nodes.c.hash).where(chosen))
        found |= {by_number[number]: bytes(digest) for number, digest in rows}
    return found


def parse_checkpoint(row: Row[Any]) -> SignedCheckpoint:
    """Read a stored checkpoint, whose signature is yet to be verified.

    Raises:
        TamperEvidence: the note is not a checkpoint, or says other things than its row.
    """
    try:
        signed = SignedCheckpoint.parse(row.note)
    except NoteError as error:
        raise TamperEvidence(index=0, reason=f"the stored checkpoint at size {row.size}: {error}") from error
    if (signed.size, signed.root) != (row.size, bytes(row.root)):
        raise TamperEvidence(
            index=0, reason=f"the stored checkpoint at size {row.size} has other columns than its signed note"
        )
    return signed
