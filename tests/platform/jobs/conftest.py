"""A control plane with real parts, a Ray that only remembers, and a job's processes played by hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select

from secure_train.audit import CheckpointPolicy, NoteSigner
from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.db import Database
from secure_train.db.tables import BudgetReservation, Job, Principal
from secure_train.db.trail import Trail
from secure_train.jobs.capacity import NodeResources
from secure_train.jobs.controller import Controller, Timing
from secure_train.jobs.errors import LauncherUnreachable
from secure_train.jobs.launcher import DriverStatus, RayLauncher
from secure_train.jobs.submit import JobService
from secure_train.jobs.worker_service import WorkerService
from secure_train.policy import Actor, CapabilityIssuer, Guard, actors
from secure_train.registry.datasets import DatasetService
from secure_train.registry.models import ModelService
from secure_train.spec import job_from_json, schema_from_json
from secure_train.training.models import build_model
from secure_train.vault import DataKey, KeyFile, SealedFileVault
from secure_train.wire.data import NewDataset
from secure_train.wire.jobs import SubmitJob
from secure_train.wire.worker import (
    Charge,
    CommitCheckpoint,
    GroupStarted,
    Heartbeat,
    JobOrder,
    PublishModel,
    Redeem,
    ReleaseMetrics,
    ReportFailure,
    Restore,
    Restored,
    StartGroup,
)

ORIGIN = "test.example/audit"
SCHEMA = {
    "apiVersion": "secure-train/v1",
    "kind": "DatasetSchema",
    "columns": [
        {"name": "age", "kind": "numeric", "lower": 0, "upper": 100},
        {"name": "sex", "kind": "categorical", "categories": ["f", "m"]},
    ],
    "target": {"name": "rich", "task": "binary", "classes": ["no", "yes"], "positive": "yes"},
    "holdout": {"fraction": 0.2, "release": "noised"},
}
ROWS = 200
CSV = "age,sex,rich\n" + "".join(
    f"{20 + row % 60},{'fm'[row % 2]},{'yes' if row % 3 else 'no'}\n" for row in range(ROWS)
)
SPEC: dict[str, Any] = {
    "apiVersion": "secure-train/v1",
    "kind": "TrainingJob",
    "metadata": {"name": "income", "project": "census", "purpose": "income-statistics"},
    "data": {"dataset": "adult"},
    "model": {"kind": "linear"},
    "privacy": {"epsilon": 3.0, "delta": 1e-5, "evaluation": {"epsilon": 0.4, "every": 4}},
    "training": {"batchSize": 16, "steps": 8, "optimizer": {"kind": "sgd", "learningRate": 0.1}},
    "resources": {"workers": 1},
    "recovery": {"maxFailures": 2, "checkpointEvery": 2, "keepCheckpoints": 2},
}


def spec_with(**changes: Any) -> dict[str, Any]:
    """The usual job with some values changed: `privacy__epsilon=2.0`."""
    spec: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in SPEC.items()
    }
    for path, value in changes.items():
        section, _, name = path.partition("__")
        spec[section][name] = value
    return spec


class RememberingRay(RayLauncher):
    """Takes submissions and starts nothing; faults can be put in its way."""

    def __init__(self) -> None:
        super().__init__("http://ray.invalid")
        self.drivers: dict[str, DriverStatus] = {}
        self.tickets: dict[str, str] = {}
        self.stopped: list[str] = []
        self.cluster: list[NodeResources] = [{"CPU": 8.0}]
        self.down = False
        self.lose_request = False
        self.lose_answer = False

    def ping(self) -> None:
        self._require_up()

    def submit(self, submission_id: str, entrypoint: str, env: Mapping[str, str]) -> None:
        self._require_up()
        if self.lose_request:
            raise LauncherUnreachable("the request was lost")
        if submission_id not in self.drivers:
            self.drivers[submission_id] = DriverStatus.ALIVE
            self.tickets[submission_id] = env["SECURE_TRAIN_TICKET"]
        if self.lose_answer:
            raise LauncherUnreachable("the answer was lost")

    def status(self, submission_id: str) -> DriverStatus:
        self._require_up()
        return self.drivers.get(submission_id, DriverStatus.UNKNOWN)

    def nodes(self) -> list[NodeResources]:
        self._require_up()
        return self.cluster

    def stop(self, submission_id: str) -> None:
        self._require_up()
        self.stopped.append(submission_id)
        self.drivers[submission_id] = DriverStatus.STOPPED

    def _require_up(self) -> None:
        if self.down:
            raise LauncherUnreachable("Ray does not answer")


@dataclass
class Processes:
    """A job's own processes, played by the test: what they send, in the order in which they would."""

    workers: WorkerService
    blocks: BlockStore
    order: JobOrder
    digest_of: Callable[[int, int], str] = field(default=lambda epoch, step: f"{epoch * 1000 + step:064x}")
    group: GroupStarted | None = None
    key: DataKey | None = None

    @property
    def token(self) -> str:
        return self.order.capability.token

    @property
    def job_id(self) -> str:
        return self.order.capability.job_id

    @property
    def started(self) -> GroupStarted:
        assert self.group is not None
        return self.group

    def start(self) -> GroupStarted:
        self.group = self.workers.start_group(self.token, StartGroup(world_size=1))
        return self.group

    def restore(self) -> int:
        """Go on from the newest good checkpoint; returns its step."""
        grant = self.workers.restore(self.token, Restore(generation=self.started.generation))
        self.key = DataKey(base64.b64decode(grant.data_key))
        step = grant.checkpoints[0].step if grant.checkpoints else 0
        self.workers.restored(self.token, Restored(generation=self.started.generation, step=step))
        return step

    def charge(self, first: int, last: int) -> None:
        self.workers.charge(
            self.token,
            Charge(
                generation=self.started.generation,
                noise_epoch=self.started.noise_epoch,
                first_step=first,
                last_step=last,
            ),
        )

    def beat(self, step: int) -> None:
        self.workers.heartbeat(
            self.token,
            Heartbeat(
                generation=self.started.generation,
                rank=0,
                host="node",
                pid=7,
                step=step,
                steps_per_second=10.0,
            ),
        )

    def checkpoint(self, step: int, state_digest: str | None = None) -> str:
        """Write a real checkpoint and commit it; returns its manifest's id."""
        assert self.key is not None
        epoch = self.started.noise_epoch
        state_digest = self.digest_of(epoch, step) if state_digest is None else state_digest
        ref = self.blocks.write(
            self.key,
            {"weight": torch.full((4,), float(step))},
            {"step": step, "state_digest": state_digest},
            manifest_id=f"{self.job_id}/checkpoint-{epoch}-{step}-{state_digest[-8:]}",
            kind="checkpoint",
        )
        self.workers.commit_checkpoint(
            self.token,
            CommitCheckpoint(
                generation=self.started.generation,
                noise_epoch=epoch,
                step=step,
                manifest_id=ref.id,
                digest=ref.digest,
                state_digest=state_digest,
                logical_bytes=ref.logical_bytes,
                stored_bytes=ref.stored_bytes,
                seconds=0.01,
            ),
        )
        return ref.id

    def train(self, first: int, last: int) -> None:
        """Charge, run and checkpoint the steps up to `last`."""
        self.charge(first, last)
        self.beat(last)
        self.checkpoint(last)

    def release(self, step: int, epsilon: float, state_digest: str | None = None, **metrics: float) -> Any:
        return self.workers.release_metrics(
            self.token,
            ReleaseMetrics(
                generation=self.started.generation,
                noise_epoch=self.started.noise_epoch,
                step=step,
                state_digest=self.digest_of(self.started.noise_epoch, step)
                if state_digest is None
                else state_digest,
                metrics=metrics or {"accuracy": 0.8},
                epsilon=epsilon,
            ),
        )

    def fail(self, cause: str = "worker 0 died", *, permanent: bool = False) -> None:
        report = ReportFailure(attempt=self.order.capability.attempt, cause=cause, permanent=permanent)
        self.workers.report_failure(self.token, report)

    def publish(self, state_digest: str | None = None) -> Any:
        assert self.key is not None
        job, schema = job_from_json(self.order.spec), schema_from_json(SCHEMA)
        model = build_model(job.model, schema.encoded_width(), schema.target.width, job.training.seed)
        epoch, final = self.started.noise_epoch, self.started.final_step
        ref = self.blocks.write(
            self.key, model.state_dict(), {}, manifest_id=f"{self.job_id}/model-{epoch}", kind="model"
        )
        return self.workers.publish_model(
            self.token,
            PublishModel(
                generation=self.started.generation,
                noise_epoch=epoch,
                state_digest=self.digest_of(epoch, final) if state_digest is None else state_digest,
                manifest_id=ref.id,
                digest=ref.digest,
            ),
        )


@dataclass
class Plane:
    """The services under test, and shortcuts."""

    spec_with = staticmethod(spec_with)

    database: Database
    guard: Guard
    audit: Trail
    vault: SealedFileVault
    blocks: BlockStore
    jobs: JobService
    workers: WorkerService
    ray: RememberingRay
    signer: NoteSigner
    timing: Timing = Timing()  # noqa: RUF009 (frozen)
    _controller: Controller | None = None

    @property
    def controller(self) -> Controller:
        if self._controller is None:
            self._controller = self.new_controller()
        return self._controller

    def new_controller(self, timing: Timing | None = None) -> Controller:
        """As after a restart of the control plane."""
        self._controller = Controller(
            self.database,
            self.audit,
            self.vault,
            self.blocks,
            self.ray,
            "http://control.invalid",
            self.signer,
            CheckpointPolicy(10_000, 3600.0),
            timing=timing,
        )
        return self._controller

    def actor(self, name: str) -> Actor:
        with self.database.read() as session:
            return actors.principal(session, session.get_one(Principal, name))

    def submit(self, key: str = "k1", *, by: str = "user:alice", **changes: Any) -> str:
        return self.jobs.submit(self.actor(by), SubmitJob(spec=spec_with(**changes), idempotency_key=key))

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def reservation(self, job_id: str) -> BudgetReservation:
        with self.database.read() as session:
            return session.scalars(select(BudgetReservation).where(BudgetReservation.job_id == job_id)).one()

    def launched(self, job_id: str) -> Processes:
        """Tick, and play the driver that was launched then."""
        self.controller.tick()
        ticket = self.ray.tickets[self.job(job_id).submission_id or ""]
        return Processes(self.workers, self.blocks, self.workers.redeem(Redeem(ticket=ticket)))

    def training(self, job_id: str) -> Processes:
        """Tick, and play a driver whose worker group has started and restored."""
        processes = self.launched(job_id)
        processes.start()
        processes.restore()
        return processes


@pytest.fixture(scope="session")
def vault_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vault")
    SealedFileVault.create(home / "vault.json", KeyFile.create(home / "vault.key"))
    return home


@pytest.fixture
def plane(
    database: Database, guard: Guard, audit: Trail, rows: Any, vault_home: Path, tmp_path: Path
) -> Plane:
    """A project with an engineer, another one, a data owner, and a registered dataset."""
    vault = SealedFileVault.open(vault_home / "vault.json", KeyFile(vault_home / "vault.key"))
    blocks = BlockStore(DirectoryBackend(tmp_path / "blocks"))
    datasets = DatasetService(guard, audit, vault, blocks)
    models = ModelService(guard, audit, vault, blocks)
    issuer = CapabilityIssuer(vault.signing_key("capability"), timedelta(minutes=15))
    with database.write() as session:
        rows.project(session)
        rows.principal(session, "user:alice")
        rows.principal(session, "user:bob")
        rows.principal(session, "user:olga", roles=["data-owner"])
        rows.principal(session, "user:root", roles=["admin"])
        rows.principal(session, "user:outsider", projects=[])
    built = Plane(
        database,
        guard,
        audit,
        vault,
        blocks,
        JobService(guard, audit, database, vault, blocks, datasets),
        WorkerService(guard, audit, vault, blocks, "file:///blocks", issuer, datasets, models),
        RememberingRay(),
        NoteSigner(ORIGIN, vault.signing_key("audit")),
    )
    datasets.register(
        built.actor("user:olga"),
        NewDataset(
            name="adult",
            project="census",
            purposes=["income-statistics"],
            classification=2,
            # Two jobs of ε 3 come to 4.42 at this δ, three to 5.10.
            budget_epsilon=5.0,
            budget_delta=1e-3,
            data_schema=SCHEMA,
            format="csv",
        ),
        io.BytesIO(CSV.encode()),
    )
    return built
