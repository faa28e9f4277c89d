"""Verification of the log in its database: everything is hashed again, every claim held against that."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.orm import Session

from secure_train.audit import store
from secure_train.audit.checkpoint import SignedCheckpoint
from secure_train.audit.errors import NoteError, TamperEvidence
from secure_train.audit.merkle import Frontier, Node, leaf_hash
from secure_train.audit.notes import NoteVerifier
from secure_train.audit.tables import checkpoints, events, nodes


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was verified.

    Attributes:
        events: events whose bodies and columns were hashed and compared.
        size: size of the tree they form.
        root: its root hash.
        checkpoint_size: events covered by the newest signed checkpoint; 0 if there is none.
        unsigned_tail: events behind it. They are consistent, but nobody has signed for them yet: whoever
            can write to the database could have replaced them.
    """

    events: int
    size: int
    root: bytes
    checkpoint_size: int
    unsigned_tail: int


def verify_log(
    session: Session | Connection,
    verifier: NoteVerifier | Sequence[NoteVerifier],
    *,
    kept: SignedCheckpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Hash the whole log again and hold it against its columns, its stored tree and its checkpoints.

    Memory stays flat; events appended meanwhile are left to the next run. A log cut back, or replaced as a
    whole together with its checkpoints, is consistent in itself: only `kept` can tell.

    Args:
        session: where to read. Nothing is written.
        verifier: the log's public key; several after a key rotation.
        kept: a checkpoint that was kept where the log's operators cannot write.
        progress: called after each page with (events done, events in all).

    Raises:
        TamperEvidence: names the first event that cannot be trusted.
        NoteError: `kept` is itself not signed by `verifier`.
    """
    connection = store.connection_of(session)
    verifiers = [verifier] if isinstance(verifier, NoteVerifier) else list(verifier)
    if kept is not None:
        kept.verify(verifiers)
    # Read before the size: a checkpoint committed later may cover events that this run does not read.
    newest = connection.execute(select(func.max(checkpoints.c.size))).scalar_one() or 0
    size = store.log_size(connection)
    heads = _Heads(connection, verifiers, newest, size, kept)
    tree = Frontier()
    heads.check(tree)
    for page in store.event_pages(connection, store.EventFilter(), after=None, end=size):
        stored = store.nodes_completed_by(connection, tree.size, tree.size + len(page))
        for row in page:
            _check_place(row.seq, tree.size)
            for node, digest in tree.push(leaf_hash(row.body)):
                if stored.get(node) != digest:
                    raise TamperEvidence(index=node.first_leaf, reason=_mismatch(node))
            _check_columns(row)
            heads.check(tree)
        if progress is not None:
            progress(tree.size, size)
    if tree.size != size:
        raise TamperEvidence(index=tree.size, reason=f"event {tree.size} is missing")
    _check_no_other_nodes(connection)
    return VerifyReport(size, size, tree.root(), newest, size - newest)


class _Heads:
    """Walks the signed heads in order of size, beside the growing tree."""

    def __init__(
        self,
        connection: Connection,
        verifiers: Sequence[NoteVerifier],
        newest: int,
        size: int,
        kept: SignedCheckpoint | None,
    ) -> None:
        self._verifiers = verifiers
        self._trusted = 0  # events covered by a signed head that has been confirmed
        for covered, whose in ((newest, "newest stored"), (kept.size if kept else 0, "kept")):
            if covered > size:
                raise TamperEvidence(
                    index=size, reason=f"the {whose} checkpoint covers {covered} events; only {size} are left"
                )
        stored = ((row.size, 0, row) for row in _checkpoint_rows(connection, newest))
        own = [(kept.size, 1, kept)] if kept else []
        self._heads: Iterator[tuple[int, int, Any]] = heapq.merge(stored, own, key=lambda head: head[:2])
        self._next = next(self._heads, None)

    def check(self, tree: Frontier) -> None:
        """Compare every head of exactly the tree's present size."""
        while self._next is not None and self._next[0] <= tree.size:
            size, _, head = self._next
            whose = "kept" if isinstance(head, SignedCheckpoint) else "stored"
            signed = head if isinstance(head, SignedCheckpoint) else self._open(head)
            if signed.root != tree.root():
                raise TamperEvidence(
                    index=min(self._trusted, max(size - 1, 0)),
                    reason=f"the first {size} events are not those of the {whose} checkpoint of that size: "
                    f"an event from {self._trusted} to {size - 1} was rewritten",
                )
            self._trusted = size
            self._next = next(self._heads, None)

    def _open(self, row: Row[Any]) -> SignedCheckpoint:
        try:
            signed = store.parse_checkpoint(row)
            signed.verify(self._verifiers)
        except (NoteError, TamperEvidence) as error:
            reason = error.reason if isinstance(error, TamperEvidence) else str(error)
            raise TamperEvidence(
                index=self._trusted, reason=f"stored checkpoint of {row.size} events: {reason}"
            ) from error
        return signed


def _checkpoint_rows(connection: Connection, newest: int) -> Iterator[Row[Any]]:
    after = -1
    while True:
        query = select(checkpoints).where(checkpoints.c.size > after, checkpoints.c.size <= newest)
        rows = connection.execute(query.order_by(checkpoints.c.size).limit(store.PAGE)).all()
        yield from rows
        if len(rows) < store.PAGE:
            return
        after = rows[-1].size


def _check_place(seq: int, expected: int) -> None:
    if seq > expected:
        raise TamperEvidence(index=expected, reason=f"event {expected} is missing; event {seq} comes next")
    if seq < expected:
        raise TamperEvidence(index=seq, reason=f"event {seq} stands where event {expected} belongs")


def _mismatch(node: Node) -> str:
    if node.level == 0:
        return "the body does not have the leaf hash in audit_nodes: one of them was edited"
    return f"audit_nodes level {node.level}, position {node.position} is not the hash of its events"


def _check_columns(row: Row[Any]) -> None:
    """The searchable columns must say what the hashed body says."""
    expected = store.event_row(store.parse_stored(row.seq, row.body), row.body)
    if tuple(row) != tuple(expected.values()):
        wrong = [name for name, value in expected.items() if getattr(row, name) != value]
        raise TamperEvidence(index=row.seq, reason=f"column {', '.join(wrong)} differs from the hashed body")


def _check_no_other_nodes(connection: Connection) -> None:
    """Every expected subtree was compared; one more would be a trace of events taken away."""
    # One statement, hence one snapshot, though others append meanwhile.
    stored = select(func.count()).select_from(nodes).scalar_subquery()
    highest = select(func.max(events.c.seq)).scalar_subquery()
    count, last = connection.execute(select(stored, highest)).one()
    size = 0 if last is None else last + 1
    if count != 2 * size - size.bit_count():
        raise TamperEvidence(
            index=size, reason="audit_nodes has hashes of events that audit_events does not hold"
        )
