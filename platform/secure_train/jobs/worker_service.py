"""The control plane towards a job's own processes.

Each request is made under the job's capability, decided by policy at that moment, and fenced: what an older
attempt, worker group or noise epoch asks for is refused. Everything a request changes commits in one
transaction with its decision and its audit events.
"""

from __future__ import annotations

import base64

from secure_train import ledger
from secure_train.blocks import BlocksError, BlockStore
from secure_train.db.tables import DatasetVersion, Job, JobCheckpoint
from secure_train.db.trail import Trail
from secure_train.jobs.checkpoints import (
    record_checkpoint,
    refuse_checkpoint,
    require_own,
    require_restorable,
)
from secure_train.jobs.errors import Diverged, JobConflict, JobError, StaleWorker, TicketRefused, Unreadable
from secure_train.jobs.groups import begin_group
from secure_train.jobs.journal import job_event, log_line
from secure_train.jobs.keys import CODE_TENSOR, code_manifest, job_key
from secure_train.jobs.lineage import (
    charged_until,
    final_step,
    good_checkpoints,
    require_charged,
    require_epoch,
)
from secure_train.jobs.liveness import record_heartbeat
from secure_train.jobs.publishing import Finished, Publisher
from secure_train.jobs.recovery import fail, record_death, record_restored
from secure_train.jobs.releases import release
from secure_train.jobs.states import JobState
from secure_train.jobs.worker_gate import WorkerGate, on_checkpoints, on_dataset
from secure_train.policy import (
    Action,
    CapabilityIssuer,
    Guard,
)
from secure_train.registry.datasets import DatasetService
from secure_train.registry.models import ModelService
from secure_train.vault import SealedFileVault
from secure_train.wire.worker import (
    Ack,
    Capability,
    Charge,
    Charged,
    CheckpointRefused,
    CommitCheckpoint,
    DatasetGrant,
    GroupStarted,
    Heartbeat,
    JobOrder,
    OpenDataset,
    Published,
    PublishModel,
    Redeem,
    Released,
    ReleaseMetrics,
    ReportFailure,
    ReportLog,
    Restore,
    Restored,
    RestoreGrant,
    StartGroup,
    StoredCheckpoint,
)


class WorkerService:
    """One method for each message of ``wire.worker``.

    All but ``redeem`` take the capability's text and raise InvalidCapability, Denied, and StaleWorker where
    the message names an older worker group.
    """

    def __init__(
        self,
        guard: Guard,
        audit: Trail,
        vault: SealedFileVault,
        blocks: BlockStore,
        block_store_url: str,
        issuer: CapabilityIssuer,
        datasets: DatasetService,
        models: ModelService,
    ) -> None:
        self._audit = audit
        self._vault = vault
        self._blocks = blocks
        self._block_store_url = block_store_url
        self._datasets = datasets
        self._gate = WorkerGate(guard, audit, issuer)
        self._publisher = Publisher(audit, vault, models)

    def redeem(self, message: Redeem) -> JobOrder:
        """Exchange a ticket for a capability, once.

        Raises:
            TicketRefused: unknown, expired, redeemed before, of an older attempt. All but the first: audited.
            InvalidCapability: the job has ended since.
        """
        try:
            with self._gate.admission(message.ticket) as (session, ticket, job):
                capability = self._gate.admit(session, job)
                data = {"attempt": job.attempt}
                key = ticket.sha256.hex()
                self._audit.append(session, job_event("ticket.redeemed", job, key, data, f"job:{job.id}"))
                code = None if job.code_digest is None else f"sha256:{job.code_digest}"
                return JobOrder(capability=capability, spec=job.spec, code_digest=code)
        except TicketRefused as refused:
            self._gate.record_refusal(message.ticket, refused)
            raise

    def renew(self, token: str) -> Capability:
        """Issue a fresh capability for the same attempt."""
        with self._gate.call(token, Action.MODEL_TRAIN) as call:
            return self._gate.renew(call)

    def code(self, token: str) -> bytes:
        """Return the job's packed working directory; raises JobConflict if it has none."""
        with self._gate.call(token, Action.MODEL_TRAIN) as call:
            key, job = job_key(self._vault, call.job), call.job
            if job.code_digest is None:
                raise JobConflict(f"{job.id} came without code of its own")
        stored = self._blocks.read(key, code_manifest(job.id))
        return stored.tensors[CODE_TENSOR].numpy().tobytes()

    def start_group(self, token: str, message: StartGroup) -> GroupStarted:
        """Begin a new worker group; every older one is fenced off from here on.

        A group that follows one which had trained is a death that nobody reported. Raises JobConflict for a
        group of another size than the job's; StaleWorker if the job has now died too often.
        """
        with self._gate.call(token, Action.MODEL_TRAIN) as call:
            session, job = call.session, call.job
            started = begin_group(session, self._audit, job, message.world_size, self._block_store_url)
            if started is not None:
                return started
        raise StaleWorker(f"{job.id} has failed: {job.reason}")

    def open_dataset(self, token: str, message: OpenDataset) -> DatasetGrant:
        """Return where the job's dataset version lies, and its data key."""
        with self._gate.call(token, Action.DATASET_READ, message.generation, on_dataset) as call:
            at = (call.job.dataset_id, call.job.dataset_version)
            version = call.session.get_one(DatasetVersion, at)
            rows = self._datasets.grant(call.session, version)
            return DatasetGrant(
                manifest_id=rows.manifest_id,
                digest=rows.digest,
                data_key=base64.b64encode(rows.data_key.reveal()).decode(),
                data_schema=version.schema,
                training_rows=version.training_rows,
                holdout_rows=version.holdout_rows,
            )

    def restore(self, token: str, message: Restore) -> RestoreGrant:
        """Return the good checkpoints to go on from, newest first, and the job's key."""
        with self._gate.call(token, Action.CHECKPOINT_RESTORE, message.generation, on_checkpoints) as call:
            key = job_key(self._vault, call.job)
            rows = good_checkpoints(call.session, call.job)
            return RestoreGrant(
                checkpoints=[_stored(row) for row in rows if row.step >= call.job.noise_epoch_step],
                data_key=base64.b64encode(key.reveal()).decode(),
                noise_epoch=call.job.noise_epoch,
            )

    def restored(self, token: str, message: Restored) -> Ack:
        """Note from where training goes on; raises JobConflict for a step that it must not go on from."""
        with self._gate.call(token, Action.CHECKPOINT_RESTORE, message.generation, on_checkpoints) as call:
            session, job = call.session, call.job
            require_restorable(session, job, message.step)
            record_restored(session, job, message.step)
            job.step = message.step
            data = {"step": message.step, "noise_epoch": job.noise_epoch, "generation": job.generation}
            self._audit.append(
                session,
                job_event(
                    "checkpoint.restored", job, f"{job.generation}:{message.step}", data, call.actor.id
                ),
            )
            return Ack()

    def checkpoint_refused(self, token: str, message: CheckpointRefused) -> Ack:
        """Mark a checkpoint as unreadable; raises Diverged if training must go on with fresh noise then."""
        with self._gate.call(token, Action.CHECKPOINT_RESTORE, message.generation, on_checkpoints) as call:
            diverged = refuse_checkpoint(call.session, self._audit, call.job, message)
        return _ack_unless(diverged)

    def charge(self, token: str, message: Charge) -> Charged:
        """Charge a lease of steps; raises StaleWorker, JobConflict."""
        self._account_beforehand(token, message)
        with self._gate.call(token, Action.MODEL_TRAIN, message.generation) as call:
            session, job = call.session, call.job
            require_epoch(job, message.noise_epoch)
            end = final_step(session, job)
            if not job.noise_epoch_step <= message.first_step < message.last_step <= end:
                raise JobConflict(
                    f"steps {message.first_step} to {message.last_step} cannot be charged to {job.id}: "
                    f"noise epoch {job.noise_epoch} runs from step {job.noise_epoch_step} to {end}"
                )
            require_charged(session, job, message.first_step)
            try:
                return ledger.charge_training(
                    session, self._audit, job, message.noise_epoch, message.first_step, message.last_step
                )
            except ledger.ChargeRefused as refused:
                raise JobConflict(str(refused)) from refused

    def commit_checkpoint(self, token: str, message: CommitCheckpoint) -> Ack:
        """Record a durable checkpoint; raises Diverged, StaleWorker, JobConflict."""
        with self._gate.call(token, Action.CHECKPOINT_WRITE, message.generation, on_checkpoints) as call:
            self._require_durable(call.job, message)
            diverged = record_checkpoint(call.session, self._audit, call.job, message)
        return _ack_unless(diverged)

    def release_metrics(self, token: str, message: ReleaseMetrics) -> Released:
        """Charge and store metrics; raises Diverged, StaleWorker, JobConflict, BudgetExceeded."""
        with self._gate.call(token, Action.MODEL_EVALUATE, message.generation) as call:
            outcome = release(call.session, self._audit, call.job, message)
        if isinstance(outcome, Diverged):
            raise outcome
        return outcome

    def heartbeat(self, token: str, message: Heartbeat) -> Ack:
        """Note that a worker lives."""
        with self._gate.call(token, Action.JOB_REPORT, message.generation) as call:
            record_heartbeat(call.session, self._audit, call.job, message)
            return Ack()

    def report_failure(self, token: str, message: ReportFailure) -> Ack:
        """Note a worker's death, as the driver saw it; a permanent failure ends the job."""
        with self._gate.call(token, Action.JOB_REPORT) as call:
            session, job = call.session, call.job
            if message.attempt != job.attempt:
                raise StaleWorker(
                    f"attempt {message.attempt} of {job.id} is over: it is at attempt {job.attempt}"
                )
            if message.permanent:
                fail(session, self._audit, job, message.cause, actor=call.actor.id)
            elif job.state == JobState.RECOVERING and job.heartbeat_at is None:
                # No group has started since the last death: it is the same one.
                log_line(session, job, f"still recovering: {message.cause}", level="warning")
            else:
                record_death(session, self._audit, job, message.cause, actor=call.actor.id)
            return Ack()

    def report_log(self, token: str, message: ReportLog) -> Ack:
        """Add a line to the job's log."""
        with self._gate.call(token, Action.JOB_REPORT, message.generation) as call:
            log_line(call.session, call.job, message.message, level=message.level, source=message.source)
            return Ack()

    def publish_model(self, token: str, message: PublishModel) -> Published:
        """Record the model version with its DP statement and end the job, all in one transaction.

        Raises:
            Diverged, StaleWorker: as everywhere. JobConflict: training has not come to its end, or the
            weights are not those of its last checkpoint.
        """
        finished: Finished | JobError
        with self._gate.read(token) as call:
            try:
                finished = self._publisher.prepare(call, message)
            except JobError as refused:
                finished = refused
        with self._gate.call(token, Action.MODEL_PUBLISH, message.generation) as call:
            # Every request is decided, and the decision recorded, before it is refused for another reason.
            if isinstance(finished, JobError):
                raise finished
            outcome = self._publisher.publish(call, message, finished)
        if isinstance(outcome, Diverged):
            raise outcome
        return outcome

    def _account_beforehand(self, token: str, message: Charge) -> None:
        """Compute the ε that a charge will come to before its transaction, since it takes seconds; cached."""
        with self._gate.read(token) as call:
            session, job = call.session, call.job
            fresh = message.last_step - max(message.first_step, charged_until(session, job))
            steps = ledger.steps_charged(session, job) + fresh
        if fresh > 0 and steps <= job.steps:
            ledger.training_epsilon(job, steps)

    def _require_durable(self, job: Job, message: CommitCheckpoint) -> None:
        """Refuse a checkpoint whose manifest is not in the store as stated; raises Unreadable, JobConflict.

        Housekeeping deletes manifests under the job's lock, which is held here too: what is there now stays.
        """
        require_own(job, message.manifest_id)
        try:
            self._blocks.open(job_key(self._vault, job), message.manifest_id, expected_digest=message.digest)
        except BlocksError as error:
            raise Unreadable(f"the checkpoint cannot be recorded: {error}") from error


def _stored(row: JobCheckpoint) -> StoredCheckpoint:
    return StoredCheckpoint(
        step=row.step,
        noise_epoch=row.noise_epoch,
        manifest_id=row.manifest_id,
        digest=row.digest,
        state_digest=row.state_digest,
    )


def _ack_unless(diverged: Diverged | None) -> Ack:
    if diverged is not None:
        raise diverged
    return Ack()
