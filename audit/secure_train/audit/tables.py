"""The three tables of the log, on a metadata of their own (the platform's migrations create them)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from secure_train.audit.event import MAX_NAME, MAX_TYPE

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes only a column of exactly type INTEGER the row id, which keeps events in order on disk.
_Position = BigInteger().with_variant(Integer(), "sqlite")

events = Table(
    "audit_events",
    metadata,
    Column(
        "seq", _Position, primary_key=True, autoincrement=False, comment="Place in the log: 0, 1, 2… gapless"
    ),
    Column("time", String(27), nullable=False, comment="UTC, RFC 3339 with microseconds and Z"),
    Column("type", String(MAX_TYPE), nullable=False, comment="Dotted event type, e.g. job.submitted"),
    Column("actor", String(MAX_NAME), nullable=False, comment="Principal that acted"),
    Column("subject", String(MAX_NAME), nullable=False, comment="What it acted on"),
    Column("project", String(MAX_NAME), nullable=True, comment="Project, if the event belongs to one"),
    Column(
        "idempotency_key", String(MAX_NAME), nullable=False, comment="Names the occurrence; recorded once"
    ),
    Column(
        "body", LargeBinary, nullable=False, comment="RFC 8785 canonical JSON that the Merkle leaf hashes"
    ),
    UniqueConstraint("idempotency_key"),
    CheckConstraint("seq >= 0", name="seq_not_negative"),
    CheckConstraint("length(time) = 27", name="time_length"),
    comment="Append-only audit log; the other columns repeat the body to make it searchable",
)
# Each filter column leads an index that ends in seq: pages are read in log order.
for _name in ("type", "actor", "subject", "project", "time"):
    Index(None, events.c[_name], events.c.seq)

nodes = Table(
    "audit_nodes",
    metadata,
    Column(
        "number",
        _Position,
        primary_key=True,
        autoincrement=False,
        comment="In-order: 2i for the leaf of event i; (2p+1)*2^k-1 for the p-th subtree of 2^k events",
    ),
    Column("hash", LargeBinary, nullable=False, comment="RFC 9162 hash of the complete subtree"),
    CheckConstraint("number >= 0", name="number_not_negative"),
    CheckConstraint("length(hash) = 32", name="hash_length"),
    comment="Hashes of the complete Merkle subtrees: those of 2^k events that start at a multiple of 2^k",
)

checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", _Position, primary_key=True, autoincrement=False, comment="Events covered"),
    Column("root", LargeBinary, nullable=False, comment="Merkle root at that size"),
    Column("note", Text, nullable=False, comment="C2SP signed note, as handed out"),
    Column("created_at", String(27), nullable=False, comment="UTC, RFC 3339 with microseconds and Z"),
    CheckConstraint("size >= 0", name="size_not_negative"),
    CheckConstraint("length(root) = 32", name="root_length"),
    CheckConstraint("length(created_at) = 27", name="created_at_length"),
    comment="Signed checkpoints, one for a size at most",
)
