"""Messages about decisions, the audit trail, keys and the system."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from secure_train.wire.base import Message


class DecisionView(Message):
    """An authorisation decision, with what was evaluated."""

    id: str
    at: datetime
    principal: str
    action: str
    resource: str
    project: str | None
    result: Literal["allow", "deny"]
    reason: str
    policies: list[str]
    errors: list[str]
    request: dict[str, Any]
    policy_hash: str
    schema_hash: str
    sources: list[str] = []
    """Cedar text of the determining policies, if one decision was asked for and they are still in force."""


class PolicyView(Message):
    """The active policies."""

    policy_hash: str
    schema_hash: str
    cedar_schema: str
    policies: dict[str, str]


class AuditEventView(Message):
    """An event of the audit trail."""

    seq: int
    time: datetime
    type: str
    actor: str
    subject: str
    project: str | None
    data: dict[str, Any]


class AuditCheckpointView(Message):
    """A signed checkpoint in C2SP format, and the key that verifies it."""

    size: int
    root: str
    note: str
    verifier_key: str


class AuditVerification(Message):
    """What a verification found. A trail that was tampered with answers with an error instead."""

    events: int
    root: str
    checkpoint_size: int
    unsigned_tail: int
    verified: Literal[True]


class InclusionProofView(Message):
    """Proof that an event is in the tree of a checkpoint (RFC 9162 §2.1.3)."""

    seq: int
    leaf: str
    hashes: list[str]
    checkpoint: AuditCheckpointView


class KeyView(Message):
    """A key of the vault, without its secret."""

    name: str
    kind: Literal["key-encryption", "signing"]
    active: bool
    public_key: str | None


class SystemStatus(Message):
    """What runs, and whether it is well."""

    version: str
    database: str
    migration: str
    policy_hash: str
    audit_size: int
    audit_checkpoint_size: int
    jobs: dict[str, int]
    ray: str
