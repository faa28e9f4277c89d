"""From a submission to a job's row: what was sent is checked, priced and sealed before any transaction."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from secure_train.blocks import BlockStore
from secure_train.db import new_id
from secure_train.db.tables import Dataset, DatasetVersion, Job
from secure_train.db.trail import Trail
from secure_train.jobs.cost import Cost, cost_of
from secure_train.jobs.errors import JobConflict
from secure_train.jobs.journal import job_event
from secure_train.jobs.keys import CODE_TENSOR, code_manifest, key_context
from secure_train.policy import Actor, Resource, resources
from secure_train.spec import (
    ModelSpec,
    SpecError,
    SpecErrors,
    TrainingJob,
    WorkdirError,
    digest,
    job_from_json,
    schema_from_json,
)
from secure_train.spec.workdir import Package, read_package
from secure_train.vault import SealedFileVault
from secure_train.wire.jobs import SubmitJob


@dataclass(frozen=True)
class Submission:
    """A valid submission."""

    spec: TrainingJob
    code: Package | None
    idempotency_key: str

    @property
    def spec_digest(self) -> str:
        """SHA-256 of the resolved specification, in hexadecimal."""
        return plain_digest(digest(self.spec))

    @property
    def code_digest(self) -> str | None:
        """Digest of the working directory, in hexadecimal."""
        return None if self.code is None else plain_digest(self.code.digest)


@dataclass(frozen=True)
class Offer:
    """A submission's dataset version, pinned, and what the job costs on it, or why it does not fit it."""

    dataset_id: str
    version: int
    training_rows: int
    price: Cost | SpecErrors

    @property
    def cost(self) -> Cost:
        """The price; raises SpecErrors if there is none."""
        if isinstance(self.price, SpecErrors):
            raise self.price
        return self.price


@dataclass(frozen=True)
class Draft:
    """A submission with the id and the wrapped data key that its job will have."""

    actor: Actor
    submission: Submission
    offer: Offer | None
    job_id: str
    wrapped_key: bytes


def plain_digest(prefixed: str) -> str:
    """Hexadecimal digits of a ``sha256:…`` digest, as rows store it."""
    return prefixed.removeprefix("sha256:")


def read_submission(message: SubmitJob) -> Submission:
    """Validate what was sent; raises SpecErrors."""
    spec = job_from_json(message.spec)
    return Submission(spec, read_code(spec.model, message.workdir), message.idempotency_key)


def read_code(model: ModelSpec, workdir: str | None) -> Package | None:
    """Read the working directory that was sent, if the model needs one; raises SpecErrors."""
    needs_code = model.kind == "entrypoint"
    if needs_code != (workdir is not None):
        problem = SpecError(
            path="workdir",
            message="is missing" if needs_code else "was sent, and the model needs none",
            allowed="a packed working directory, for a model of kind `entrypoint` and for no other",
            hint="submit through the CLI: it packs model.workingDir" if needs_code else "leave it out",
        )
        raise SpecErrors([problem], "submission")
    if workdir is None:
        return None
    try:
        return read_package(base64.b64decode(workdir, validate=True))
    except (binascii.Error, WorkdirError) as error:
        problem = SpecError(
            path="workdir",
            message=f"is not a packed working directory: {error}",
            hint="submit through the CLI, which packs it",
        )
        raise SpecErrors([problem], "submission") from error


def price(spec: TrainingJob, version: DatasetVersion) -> Offer:
    """Price a job on a dataset version. Takes seconds: call it outside of transactions."""
    found: Cost | SpecErrors
    try:
        schema = schema_from_json(version.schema)
        found = cost_of(spec, schema, version.training_rows, version.holdout_rows)
    except SpecErrors as errors:
        found = errors
    return Offer(version.dataset_id, version.version, version.training_rows, found)


def unpriced(version: DatasetVersion) -> Offer:
    """Name a dataset version to somebody for whom no job on it is priced."""
    problem = SpecError(path="data.dataset", message="is not a dataset that you may use")
    unusable = SpecErrors([problem], "job")
    return Offer(version.dataset_id, version.version, version.training_rows, unusable)


def context_of(spec: TrainingJob) -> dict[str, Any]:
    """What policies on `job:submit` may look at beside the actor and the dataset."""
    return {
        "purpose": spec.metadata.purpose,
        "project": spec.metadata.project,
        "epsilon": spec.privacy.epsilon,
        "delta": spec.privacy.delta,
        "workers": spec.resources.workers,
        "own_code": spec.model.kind == "entrypoint",
    }


def dataset_of(session: Session, spec: TrainingJob, offer: Offer | None) -> tuple[Resource, Dataset | None]:
    """Return the dataset that a submission is decided on; a missing one if there is none."""
    given = spec.data.dataset
    asked = given if "/" in given else f"{spec.metadata.project}/{given}"
    if offer is None:
        return resources.missing("dataset", asked), None
    dataset = session.get_one(Dataset, offer.dataset_id)
    return resources.dataset(session, dataset, asked), dataset


def make_draft(
    vault: SealedFileVault, blocks: BlockStore, actor: Actor, submission: Submission, offer: Offer | None
) -> Draft:
    """Give a submission its id and data key, and seal its code in the block store.

    If the submission then fails, the code is garbage, which housekeeping removes.
    """
    job_id = new_id("job")
    key, wrapped = vault.new_data_key(key_context(submission.spec.metadata.project, job_id))
    if submission.code is not None:
        tensors = {CODE_TENSOR: np.frombuffer(submission.code.data, dtype=np.uint8)}
        meta = {"digest": submission.code.digest}
        blocks.write(key, tensors, meta, manifest_id=code_manifest(job_id), kind="code")
    return Draft(actor, submission, offer, job_id, wrapped.to_bytes())


def add_job(session: Session, audit: Trail, draft: Draft, idempotency_key: str) -> Job:
    """Add a submitted job's row, with its audit event; raises SpecErrors if it does not fit its dataset."""
    if draft.offer is None:
        raise ValueError("a job without a dataset cannot be a row")
    submission, spec, cost = draft.submission, draft.submission.spec, draft.offer.cost
    job = Job(
        id=draft.job_id,
        name=spec.metadata.name,
        project_id=spec.metadata.project,
        purpose=spec.metadata.purpose,
        submitted_by=draft.actor.id,
        idempotency_key=idempotency_key,
        spec=spec.model_dump(mode="json", by_alias=True),
        spec_digest=submission.spec_digest,
        code_digest=submission.code_digest,
        dataset_id=draft.offer.dataset_id,
        dataset_version=draft.offer.version,
        priority=spec.resources.priority,
        epsilon=spec.privacy.epsilon,
        delta=spec.privacy.delta,
        noise_multiplier=cost.noise_multiplier,
        sampling_rate=cost.sampling_rate,
        steps=cost.steps,
        wrapped_key=draft.wrapped_key,
    )
    session.add(job)
    session.flush()
    data = {
        "name": job.name,
        "purpose": job.purpose,
        "dataset": f"{job.dataset_id}@{job.dataset_version}",
        "epsilon": job.epsilon,
        "delta": job.delta,
        "noise_multiplier": job.noise_multiplier,
        "sampling_rate": job.sampling_rate,
        "steps": job.steps,
        "spec": job.spec_digest,
        "code": job.code_digest,
    }
    audit.append(session, job_event("job.submitted", job, job.spec_digest, data, draft.actor.id))
    return job


def require_same(job: Job, submission: Submission) -> None:
    """Refuse to take another job for a repetition; raises JobConflict."""
    if (job.spec_digest, job.code_digest) != (submission.spec_digest, submission.code_digest):
        raise JobConflict(
            f"the idempotency key {submission.idempotency_key!r} was used for another job, {job.id}: "
            "use a new key"
        )
