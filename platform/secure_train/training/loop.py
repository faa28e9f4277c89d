"""One worker's life, from the start of its group to the published model. Knows no Ray.

The order that privacy rests on: steps are charged before they run; what they gave is durable and recorded
before anything that was computed from it is released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.client.worker_client import WorkerClient
from secure_train.dp import GaussianNoise, PerformanceFlags, PrivacySpec, PrivateStep
from secure_train.spec import TrainingJob, schema_from_json
from secure_train.spec import digest as digest_of
from secure_train.training.checkpointing import CheckpointWriter
from secure_train.training.collective import Collective
from secure_train.training.encoding import Split
from secure_train.training.evaluation import Evaluator, Schedule
from secure_train.training.failures import PermanentFailure, WorkerFailure
from secure_train.training.heartbeat import Pulse
from secure_train.training.preparing import prepare_model, try_model
from secure_train.training.restoring import Restorer, data_key
from secure_train.training.shard import Shard, encode_split, read_columns
from secure_train.training.state import TrainingState, make_optimizer
from secure_train.training.tasks import task_of
from secure_train.vault import DataKey
from secure_train.wire.worker import (
    Charge,
    GroupStarted,
    OpenDataset,
    PublishModel,
    ReportLog,
    Restore,
    StartGroup,
)

SAMPLING, NOISE = b"secure-train/sampling/1", b"secure-train/noise/1"


@dataclass(frozen=True)
class Assignment:
    """What a worker is told before it starts.

    Attributes:
        job: the specification.
        job_id: names the job's folder in the block store.
        client: acts under the job's capability.
        collective: the worker's group.
        code: the author's unpacked working directory, for models of kind ``entrypoint``.
        fenced: ends this process at once.
    """

    job: TrainingJob
    job_id: str
    client: WorkerClient
    collective: Collective
    code: Path | None
    fenced: Callable[[], None]


def run_worker(assignment: Assignment) -> None:
    """Train to the end. Every rank of the group runs this.

    Raises:
        WorkerFailure: see its kinds.
        ApiError: the control plane refused; see ``failures.refused``.
    """
    group = _start_group(assignment)
    try:
        training = _prepare(assignment, group)
    except PermanentFailure as failure:
        _log(assignment, group, "error", str(failure.args[0]))
        raise
    with Pulse(assignment.client, group.generation, assignment.collective.rank, assignment.fenced) as pulse:
        training.run(pulse)


@dataclass(frozen=True)
class _Training:
    """A worker that is ready to take step ``first_step``."""

    assignment: Assignment
    group: GroupStarted
    shard: Shard
    stepper: PrivateStep
    state: TrainingState
    store: BlockStore
    key: DataKey
    evaluator: Evaluator | None
    first_step: int

    def run(self, pulse: Pulse) -> None:
        client, group = self.assignment.client, self.group
        with CheckpointWriter(
            self.store, self.key, client, self.assignment.job_id, group.generation
        ) as writer:
            step = self.first_step
            self._catch_up(writer, step)
            while step < group.final_step:
                lease_end = self._lease_end(step)
                self._charge(step, lease_end)
                for position in range(step, lease_end):
                    batch = self.shard.batch(group.noise_epoch, position)
                    self.stepper.step(batch, group.noise_epoch, position)
                    pulse.done(position + 1)
                    writer.check()
                step = lease_end
                self._checkpoint(writer, step)
            self._finish(writer)

    def _lease_end(self, step: int) -> int:
        """Steps are charged up to the next checkpoint: as many as would be run again after a crash."""
        every = self.assignment.job.recovery.checkpoint_every
        ends = [self.group.final_step, (step // every + 1) * every]
        if self.evaluation is not None:
            ends.append(self.evaluation.next_due(step))
        return min(ends)

    @property
    def evaluation(self) -> Schedule | None:
        """The same on all ranks, unlike ``evaluator``: checkpoints must come at the same steps everywhere."""
        return _schedule(self.assignment.job, self.group)

    def _charge(self, first: int, last: int) -> None:
        if self.assignment.collective.leads:
            self.assignment.client.charge(
                Charge(
                    generation=self.group.generation,
                    noise_epoch=self.group.noise_epoch,
                    first_step=first,
                    last_step=last,
                )
            )
        self.assignment.collective.wait_for_leader()

    def _checkpoint(self, writer: CheckpointWriter, step: int) -> None:
        if not self.assignment.collective.leads:
            return
        snapshot = self.state.snapshot(step, self.group.noise_epoch)
        if self.evaluator is not None and self.evaluator.schedule.due(step):
            sums = self.evaluator.measure(self.state.model)
            writer.submit(snapshot, partial(self.evaluator.release, sums, snapshot))
        else:
            writer.submit(snapshot)

    def _catch_up(self, writer: CheckpointWriter, step: int) -> None:
        """Do what a crash may have prevented after the last step; done twice, the first time counts."""
        if step == self.group.final_step:
            # Recorded again: it may be of an earlier noise epoch, of which nothing is accepted any more.
            self._checkpoint(writer, step)
        elif self.evaluator is not None and self.evaluator.schedule.due(step):
            sums = self.evaluator.measure(self.state.model)
            self.evaluator.release(sums, self.state.snapshot(step, self.group.noise_epoch))

    def _finish(self, writer: CheckpointWriter) -> None:
        if not self.assignment.collective.leads:
            return
        writer.drain()
        snapshot = self.state.snapshot(self.group.final_step, self.group.noise_epoch)
        ref = writer.write_model(snapshot)
        self.assignment.client.publish_model(
            PublishModel(
                generation=self.group.generation,
                noise_epoch=self.group.noise_epoch,
                state_digest=snapshot.state_digest,
                manifest_id=ref.id,
                digest=ref.digest,
            )
        )


def _start_group(assignment: Assignment) -> GroupStarted:
    collective = assignment.collective
    if not collective.leads:
        return GroupStarted.model_validate_json(collective.share(None))
    group = assignment.client.start_group(StartGroup(world_size=collective.world_size))
    collective.share(group.model_dump_json().encode())
    return group


def _prepare(assignment: Assignment, group: GroupStarted) -> _Training:
    job, client, collective = assignment.job, assignment.client, assignment.collective
    store = BlockStore(DirectoryBackend(_folder(group.block_store)))
    data = client.open_dataset(OpenDataset(generation=group.generation))
    schema = schema_from_json(data.data_schema)
    task = task_of(schema)
    model = prepare_model(job, schema, task, assignment.code)
    grant = client.restore(Restore(generation=group.generation))
    if collective.leads and not grant.checkpoints:
        try_model(job, schema, task, model, assignment.code)
    columns = read_columns(store, data)
    rows = encode_split(
        schema, columns, Split.TRAINING, rank=collective.rank, world_size=collective.world_size
    )
    key = data_key(grant.data_key)
    # Noise never repeats on other inputs, even if rows or specification are exchanged under a job.
    inputs = f"{data.digest} {digest_of(job)}".encode()
    model.to(collective.device)
    optimizer = make_optimizer(job.training.optimizer, model)
    stepper = PrivateStep(
        model,
        optimizer,
        task.batch_losses,
        PrivacySpec(
            noise_multiplier=group.noise_multiplier,
            max_grad_norm=job.privacy.max_grad_norm,
            expected_batch_size=group.sampling_rate * data.training_rows,
        ),
        GaussianNoise(key.derive(NOISE, salt=inputs), collective.rank, collective.world_size),
        PerformanceFlags(physical_batch_size=job.training.physical_batch_size),
        collective.all_reduce,
    )
    state = TrainingState(model, optimizer, stepper)
    restorer = Restorer(store, key, client, collective, group.generation)
    first_step = restorer.restore(grant, state)
    if first_step > group.final_step:
        raise WorkerFailure(f"restored step {first_step}, but training ends at step {group.final_step}")
    collective.require_same(state.tensors(), "weights")
    evaluator = None
    schedule = _schedule(job, group)
    if schedule is not None and collective.leads:
        held_out = encode_split(schema, columns, Split.HOLDOUT)
        evaluator = Evaluator(
            schedule,
            task,
            schema,
            held_out,
            job.training.physical_batch_size,
            collective.device,
            client,
            group.generation,
        )
    sampling = key.derive(SAMPLING, salt=inputs)
    shard = Shard(rows, group.sampling_rate, sampling, collective.rank, collective.device)
    return _Training(assignment, group, shard, stepper, state, store, key, evaluator, first_step)


def _schedule(job: TrainingJob, group: GroupStarted) -> Schedule | None:
    evaluation = job.privacy.evaluation
    return None if evaluation is None else Schedule(evaluation, group.final_step, group.noise_epoch)


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise PermanentFailure(f"block stores of scheme {parts.scheme or 'none'!r} cannot be read by workers")
    return Path(unquote(parts.path))


def _log(assignment: Assignment, group: GroupStarted, level: str, message: str) -> None:
    source = f"worker {assignment.collective.rank}"
    assignment.client.report_log(
        ReportLog(generation=group.generation, source=source, level=level, message=message[:2000])
    )
