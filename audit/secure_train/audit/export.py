"""Evidence to hand out: events as JSON lines that an auditor verifies without this platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import IO, Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.orm import Session

from secure_train.audit import export_format, merkle, store
from secure_train.audit.checkpoint import SignedCheckpoint
from secure_train.audit.errors import ProofError, TamperEvidence
from secure_train.audit.event import rfc3339
from secure_train.audit.log import AuditLog
from secure_train.audit.notes import NoteSigner, sign_note
from secure_train.audit.store import EventFilter
from secure_train.audit.tables import checkpoints

CONSISTENCY_PROOFS = 100
"""A filtered export proves its consistency with so many of the newest stored checkpoints."""


def export_jsonl(
    session: Session | Connection,
    fp: IO[bytes],
    signer: NoteSigner,
    *,
    where: EventFilter | None = None,
) -> int:
    """Write an export to a binary file; returns the number of events. See `export_lines`."""
    count = -2  # the header and the trailer are no events
    for line in export_lines(session, signer, where=where):
        fp.write(line)
        count += 1
    return count


def export_lines(
    session: Session | Connection, signer: NoteSigner, *, where: EventFilter | None = None
) -> Iterator[bytes]:
    """The lines of an export, as a stream, valid once its last line is there. The database is only read.

    Without a filter the export is complete: the root recomputes from it. With one, every event carries its
    inclusion proof; that no matching event was left out then rests on the log's signature alone.

    Args:
        session: where to read; not a transaction that has appended events of its own.
        signer: the log's key; its name is the log's origin.
        where: which events; all of them unless given.

    Raises:
        TamperEvidence: an event does not fit the stored tree. The stream ends without its signed last line.
    """
    connection = store.connection_of(session)
    chosen = where or EventFilter()
    head = AuditLog(signer.name).sign_head(connection, signer)
    filtered = chosen != EventFilter()
    header = export_format.Header(
        verifier=str(signer.verifier),
        checkpoint=head.note,
        exported_at=rfc3339(datetime.now(UTC), "exported_at"),
        filter=chosen.to_json(),
        consistency=_consistency(connection, head.size) if filtered else {},
    )
    events = _selected(connection, chosen, head) if filtered else _complete(connection, head)
    digest, count = sha256(), -1
    for line in _with_header(header, events):
        digest.update(line)
        count += 1
        yield line
    text = export_format.trailer_text(signer.name, count, digest.digest())
    yield export_format.Trailer(count, sign_note(text, signer)).line()


def _with_header(header: export_format.Header, events: Iterator[bytes]) -> Iterator[bytes]:
    yield header.line()
    yield from events


def _complete(connection: Connection, head: SignedCheckpoint) -> Iterator[bytes]:
    tree = merkle.Frontier()
    for page in store.event_pages(connection, EventFilter(), after=None, end=head.size):
        stored = store.nodes_completed_by(connection, tree.size, tree.size + len(page))
        for row in page:
            leaf = merkle.leaf_hash(row.body)
            if row.seq != tree.size or stored.get(merkle.Node(0, tree.size)) != leaf:
                raise TamperEvidence(index=tree.size, reason="the event does not fit its stored leaf hash")
            tree.push(leaf)
            yield export_format.complete_line(row.body, leaf)
    if tree.root() != head.root:
        raise TamperEvidence(
            index=0, reason="the events do not form the stored tree; run a full verification"
        )


def _selected(connection: Connection, where: EventFilter, head: SignedCheckpoint) -> Iterator[bytes]:
    ordinal = 0
    for page in store.event_pages(connection, where, after=None, end=head.size):
        for row, proof in zip(page, _page_proofs(connection, page, head.size), strict=True):
            try:
                merkle.verify_inclusion(merkle.leaf_hash(row.body), row.seq, head.size, proof, head.root)
            except ProofError as error:
                raise TamperEvidence(
                    index=row.seq, reason="the event does not fit the stored tree"
                ) from error
            yield export_format.selected_line(row.body, ordinal, proof)
            ordinal += 1


def _page_proofs(connection: Connection, page: Sequence[Row[Any]], size: int) -> list[tuple[bytes, ...]]:
    """Inclusion proofs of a page of events, sharing one look-up of the nodes."""
    wanted = {node for row in page for node in merkle.inclusion_nodes(row.seq, size)}
    hashes = store.node_reader(connection)(wanted)
    return [merkle.inclusion_proof(row.seq, size, lambda _: hashes) for row in page]


def _consistency(connection: Connection, size: int) -> dict[int, tuple[bytes, ...]]:
    query = select(checkpoints.c.size).where(checkpoints.c.size > 0, checkpoints.c.size < size)
    newest = connection.execute(query.order_by(checkpoints.c.size.desc()).limit(CONSISTENCY_PROOFS)).scalars()
    read = store.node_reader(connection)
    return {old: merkle.consistency_proof(old, size, read) for old in newest.all()}
