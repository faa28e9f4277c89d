"""A job's data key: it seals code, checkpoints and model; sampling and noise keys derive from it."""

from __future__ import annotations

from secure_train.db.tables import Job
from secure_train.vault import DataKey, KeyContext, SealedFileVault, WrappedKey

CODE_TENSOR = "package"


def key_context(project_id: str, job_id: str) -> KeyContext:
    """What the data key of a job is bound to."""
    return KeyContext(tenant=project_id, artifact=job_id, type="job")


def job_key(vault: SealedFileVault, job: Job) -> DataKey:
    """Unwrap a job's data key; raises VaultError."""
    return vault.unwrap(WrappedKey.from_bytes(job.wrapped_key), key_context(job.project_id, job.id))


def code_manifest(job_id: str) -> str:
    """Where a job's packed working directory lies in the block store."""
    return f"{job_id}/code"
