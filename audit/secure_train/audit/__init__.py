"""Tamper-evident audit log: an RFC 9162 tree over SQL, C2SP checkpoints, exports verifiable offline.

log = AuditLog("example.com/secure-train/audit")
log.append(session, Event("job.submitted", "user:alice", "job:job_01", {"tier": "dp"}, "submit:job_01"))
log.checkpoint(session, signer)
verify_log(session, signer.verifier, kept=SignedCheckpoint.parse(note_of_last_month))
"""

from secure_train.audit.canonical import JsonValue, canonical_json
from secure_train.audit.checkpoint import Checkpoint, CheckpointPolicy, SignedCheckpoint
from secure_train.audit.errors import (
    AuditError,
    IdempotencyConflict,
    InvalidEventError,
    NoteError,
    ProofError,
    TamperEvidence,
    UnsafeTransactionError,
)
from secure_train.audit.event import Event, Record
from secure_train.audit.export import export_jsonl, export_lines
from secure_train.audit.log import Appended, AuditLog
from secure_train.audit.merkle import verify_consistency, verify_inclusion
from secure_train.audit.notes import NoteSigner, NoteVerifier
from secure_train.audit.offline import ExportReport, KeySource, verify_export
from secure_train.audit.store import EventFilter
from secure_train.audit.verify import VerifyReport, verify_log

__all__ = [
    "Appended",
    "AuditError",
    "AuditLog",
    "Checkpoint",
    "CheckpointPolicy",
    "Event",
    "EventFilter",
    "ExportReport",
    "IdempotencyConflict",
    "InvalidEventError",
    "JsonValue",
    "KeySource",
    "NoteError",
    "NoteSigner",
    "NoteVerifier",
    "ProofError",
    "Record",
    "SignedCheckpoint",
    "TamperEvidence",
    "UnsafeTransactionError",
    "VerifyReport",
    "canonical_json",
    "export_jsonl",
    "export_lines",
    "verify_consistency",
    "verify_export",
    "verify_inclusion",
    "verify_log",
]
