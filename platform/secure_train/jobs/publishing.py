"""The end of a job that succeeds: weights, lineage, metrics and DP statement become a model version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from secure_train import ledger
from secure_train.blocks import BlocksError
from secure_train.db.tables import DatasetVersion, JobCheckpoint
from secure_train.db.trail import Trail
from secure_train.jobs.checkpoints import expire_old, require_own
from secure_train.jobs.errors import Diverged, JobConflict, Unreadable
from secure_train.jobs.evidence import newest_metrics, statement_of
from secure_train.jobs.journal import log_line
from secure_train.jobs.keys import job_key
from secure_train.jobs.lineage import begin_noise_epoch, final_step, require_charged, require_epoch
from secure_train.jobs.recovery import close_recoveries
from secure_train.jobs.states import JobState
from secure_train.jobs.transitions import transition
from secure_train.jobs.worker_gate import Call
from secure_train.registry import InvalidModel
from secure_train.registry.models import ModelService
from secure_train.registry.sealing import SealedWeights
from secure_train.vault import SealedFileVault
from secure_train.wire.worker import Published, PublishModel


@dataclass(frozen=True)
class Finished:
    """What a job leaves behind: its weights, sealed again, and its statement over so many charged steps."""

    weights: SealedWeights
    statement: dict[str, Any]
    steps: int


class Publisher:
    """Publishes in two parts: what takes seconds first, then the transaction."""

    def __init__(self, audit: Trail, vault: SealedFileVault, models: ModelService) -> None:
        self._audit = audit
        self._vault = vault
        self._models = models

    def prepare(self, call: Call, message: PublishModel) -> Finished:
        """Check and seal the weights, and compute the DP statement. Changes no row.

        Raises:
            StaleWorker: another noise epoch.
            Unreadable: the weights cannot be read.
            JobConflict: training has not come to its end, or the weights are not those of the job's model.
        """
        session, job = call.session, call.job
        self._require_finished(call, message)
        version = session.get_one(DatasetVersion, (job.dataset_id, job.dataset_version))
        statement = statement_of(session, job)
        key = job_key(self._vault, job)
        try:
            weights = self._models.seal(job, version, key, message.manifest_id, message.digest)
        except BlocksError as error:
            raise Unreadable(f"the model of {job.id} cannot be read back: {error}") from error
        except InvalidModel as error:
            raise JobConflict(f"the model of {job.id} cannot be published: {error}") from error
        return Finished(weights, statement.model_dump(mode="json"), statement.steps)

    def publish(self, call: Call, message: PublishModel, finished: Finished) -> Published | Diverged:
        """Record the model version and end the job; or return the error to raise after the commit.

        Raises StaleWorker, JobConflict.
        """
        session, job = call.session, call.job
        end = self._require_finished(call, message)
        last = session.get(JobCheckpoint, (job.id, job.noise_epoch, end))
        if last is None or finished.steps != ledger.steps_charged(session, job):
            raise JobConflict(
                f"{job.id} has no checkpoint of its last step {end}: commit it before publishing"
            )
        if last.state_digest != message.state_digest:
            why = "the model to publish is not that of the last checkpoint"
            return begin_noise_epoch(session, self._audit, job, why)
        if job.state == JobState.RECOVERING:
            # It died after its last step: there was none left to go on with.
            close_recoveries(session, self._audit, job)
        version = self._models.publish(
            session,
            call.actor,
            job,
            finished.weights,
            weights_digest=message.digest,
            metrics=newest_metrics(session, job),
            statement=finished.statement,
        )
        job.step = end
        expire_old(session, self._audit, job, keep=0)
        reason = f"published {job.name}@{version.version}"
        transition(session, self._audit, job, JobState.SUCCEEDED, reason, actor=call.actor.id)
        log_line(session, job, reason)
        return Published(model=job.name, version=version.version)

    def _require_finished(self, call: Call, message: PublishModel) -> int:
        require_epoch(call.job, message.noise_epoch)
        require_own(call.job, message.manifest_id)
        end = final_step(call.session, call.job)
        require_charged(call.session, call.job, end)
        return end
