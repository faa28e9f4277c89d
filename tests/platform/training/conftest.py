"""Workers in this process, and a control plane for them, in memory, that faults can be injected into.

It keeps what the real one keeps of a job that bears on workers: charges, checkpoints with their state
digests, releases, noise epochs and generations. It decides nothing by policy.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.client.worker_client import WorkerClient
from secure_train.spec import DatasetSchema, job_from_json
from secure_train.spec.workdir import pack
from secure_train.training.collective import Collective
from secure_train.training.loop import Assignment, run_worker
from secure_train.vault import DataKey
from secure_train.wire.worker import (
    Capability,
    Charge,
    CheckpointRefused,
    CommitCheckpoint,
    DatasetGrant,
    GroupStarted,
    Heartbeat,
    JobOrder,
    PublishModel,
    Redeem,
    ReleaseMetrics,
    ReportFailure,
    ReportLog,
    Restored,
    RestoreGrant,
    StartGroup,
    StoredCheckpoint,
)

SCHEMA = {
    "columns": [
        {"name": "age", "kind": "numeric", "lower": 0, "upper": 100},
        {"name": "score", "kind": "numeric", "lower": -1, "upper": 1},
        {"name": "group", "kind": "categorical", "categories": ["a", "b", "c"], "unknown": "error"},
    ],
    "target": {"name": "label", "task": "binary", "classes": ["no", "yes"], "positive": "yes"},
    "holdout": {"fraction": 0.2, "release": "noised"},
}


@dataclass
class Fault:
    """Answer a path this way, ``times`` times."""

    status: int
    code: str
    times: int = 1


@dataclass
class WorkerControl:
    """One job, its data in a real block store, and everything its workers said."""

    folder: Path
    spec: dict[str, Any]
    rows: int = 400
    steps: int = 12
    code: Path | None = None
    job_id: str = "job_test"
    noise_multiplier: float = 1.0
    noise_epoch: int = 0
    noise_epoch_step: int = 0
    generation: int = 0
    attempt: int = 1
    token: str = "capability-0"
    tokens: set[str] = field(default_factory=lambda: {"capability-0"})
    token_seconds: float = 900
    state: str = "running"
    url: str = ""
    charges: list[Charge] = field(default_factory=list)
    checkpoints: dict[tuple[int, int], CommitCheckpoint] = field(default_factory=dict)
    refused: list[CheckpointRefused] = field(default_factory=list)
    releases: dict[tuple[int, int], ReleaseMetrics] = field(default_factory=dict)
    release_requests: list[ReleaseMetrics] = field(default_factory=list)
    heartbeats: list[tuple[float, Heartbeat]] = field(default_factory=list)
    restored: list[int] = field(default_factory=list)
    failures: list[ReportFailure] = field(default_factory=list)
    logs: list[ReportLog] = field(default_factory=list)
    published: list[PublishModel] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    job_key: DataKey = field(default_factory=DataKey.generate)
    data_key: DataKey = field(default_factory=DataKey.generate)
    requests: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.store = BlockStore(DirectoryBackend(self.folder / "blocks"))
        self.lock = threading.RLock()
        generator = torch.Generator().manual_seed(5)
        age = torch.rand(self.rows, generator=generator, dtype=torch.float64) * 100
        self.columns = {
            "column/age": age,
            "column/score": torch.rand(self.rows, generator=generator, dtype=torch.float64) * 2 - 1,
            "column/group": torch.randint(0, 3, (self.rows,), generator=generator, dtype=torch.int32),
            "target": (age > 50).to(torch.int32),
            "holdout": torch.arange(self.rows) % 5 == 0,
        }
        self.dataset = self.store.write(
            self.data_key, self.columns, {}, manifest_id="datasets/d/rows", kind="dataset"
        )
        self.package = None if self.code is None else pack(self.code)

    @property
    def training_rows(self) -> int:
        return int((~self.columns["holdout"]).sum())

    @property
    def sampling_rate(self) -> float:
        return self.spec["training"]["batchSize"] / self.training_rows

    @property
    def steps_charged(self) -> int:
        """Distinct steps over all noise epochs."""
        return len({(c.noise_epoch, step) for c in self.charges for step in range(c.first_step, c.last_step)})

    def final_step(self) -> int:
        earlier = {
            (c.noise_epoch, step)
            for c in self.charges
            if c.noise_epoch < self.noise_epoch
            for step in range(c.first_step, c.last_step)
        }
        return self.noise_epoch_step + self.steps - len(earlier)

    def capability(self) -> Capability:
        expires = datetime.now(UTC) + timedelta(seconds=self.token_seconds)
        return Capability(token=self.token, job_id=self.job_id, attempt=self.attempt, expires_at=expires)

    def good(self) -> list[StoredCheckpoint]:
        bad = {refusal.manifest_id for refusal in self.refused}
        found = [c for c in self.checkpoints.values() if c.manifest_id not in bad]
        found.sort(key=lambda c: (c.step, c.noise_epoch), reverse=True)
        return [
            StoredCheckpoint(
                step=c.step,
                noise_epoch=c.noise_epoch,
                manifest_id=c.manifest_id,
                digest=c.digest,
                state_digest=c.state_digest,
            )
            for c in found
            if c.step >= self.noise_epoch_step
        ]

    def diverge(self) -> None:
        good = self.good()
        self.noise_epoch += 1
        self.generation += 1
        self.noise_epoch_step = good[0].step if good else 0

    def dataset_grant(self) -> DatasetGrant:
        schema = DatasetSchema.model_validate(SCHEMA, strict=False)
        return DatasetGrant(
            manifest_id=self.dataset.id,
            digest=self.dataset.digest,
            data_key=base64.b64encode(self.data_key.reveal()).decode(),
            data_schema=schema.model_dump(mode="json", by_alias=True),
            training_rows=self.training_rows,
            holdout_rows=self.rows - self.training_rows,
        )

    def restore_grant(self) -> RestoreGrant:
        key = base64.b64encode(self.job_key.reveal()).decode()
        return RestoreGrant(checkpoints=self.good(), data_key=key, noise_epoch=self.noise_epoch)

    def answer(self, path: str, body: dict[str, Any], token: str) -> Any:
        """The answer to a request: a message, bytes, or (status, code)."""
        if path == "redeem":
            if Redeem.model_validate(body).ticket != "stt_once" or self.requests["redeem"] > 1:
                return 401, "not_authenticated"
            digest = None if self.package is None else self.package.digest
            return JobOrder(capability=self.capability(), spec=self.spec, code_digest=digest)
        if token not in self.tokens or self.state != "running":
            return 401, "not_authenticated"
        if path == "renew":
            self.token = f"capability-{self.requests['renew']}"
            self.tokens.add(self.token)
            return self.capability()
        if path == "code":
            assert self.package is not None
            return self.package.data
        if path == "groups":
            StartGroup.model_validate(body)
            self.generation += 1
            return GroupStarted(
                generation=self.generation,
                noise_epoch=self.noise_epoch,
                final_step=self.final_step(),
                noise_multiplier=self.noise_multiplier,
                sampling_rate=self.sampling_rate,
                block_store=(self.folder / "blocks").as_uri(),
            )
        if path == "failures":
            self.failures.append(ReportFailure.model_validate(body))
            if self.failures[-1].permanent:
                self.state = "failed"
            return {"ok": True}
        if body.get("generation") != self.generation:
            return 409, "stale"
        return self._of_generation(path, body)

    def _of_generation(self, path: str, body: dict[str, Any]) -> Any:
        if path == "dataset":
            return self.dataset_grant()
        if path == "restore":
            return self.restore_grant()
        if path == "restored":
            self.restored.append(Restored.model_validate(body).step)
        elif path == "charges":
            charge = Charge.model_validate(body)
            if charge.noise_epoch != self.noise_epoch:
                return 409, "stale"
            if charge.last_step > self.final_step():
                return 409, "conflict"
            self.charges.append(charge)
            return {"epsilon": 1.0, "delta": 1e-5, "steps_charged": self.steps_charged}
        elif path == "checkpoints":
            commit = CommitCheckpoint.model_validate(body)
            known = self.checkpoints.setdefault((commit.noise_epoch, commit.step), commit)
            if known.state_digest != commit.state_digest:
                self.diverge()
                return 409, "diverged"
            self.checkpoints[commit.noise_epoch, commit.step] = commit
        elif path == "checkpoints/refused":
            self.refused.append(CheckpointRefused.model_validate(body))
        elif path == "releases":
            release = ReleaseMetrics.model_validate(body)
            self.release_requests.append(release)
            stored = self.releases.setdefault((release.noise_epoch, release.step), release)
            return {"metrics": stored.metrics, "epsilon": stored.epsilon}
        elif path == "heartbeat":
            self.heartbeats.append((time.time(), Heartbeat.model_validate(body)))
        elif path == "logs":
            self.logs.append(ReportLog.model_validate(body))
        elif path == "models":
            published = PublishModel.model_validate(body)
            last = self.checkpoints.get((published.noise_epoch, self.final_step()))
            if last is None:
                return 409, "conflict"
            if last.state_digest != published.state_digest:
                self.diverge()
                return 409, "diverged"
            self.published.append(published)
            self.state = "succeeded"
            return {"model": "mod_1", "version": 1}
        return {"ok": True}

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.api_route("/api/v1/worker/{path:path}", methods=["GET", "POST"])
        async def handle(path: str, request: Request) -> Response:
            body = await request.json() if request.method == "POST" and await request.body() else {}
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            with self.lock:
                self.requests[path] += 1
                self.paths.append(path)
                fault = self.faults.get(path)
                if fault is not None and fault.times > 0:
                    fault.times -= 1
                    return _error(fault.status, fault.code)
                answer = self.answer(path, body, token)
            if isinstance(answer, tuple):
                return _error(*answer)
            if isinstance(answer, bytes):
                return Response(answer, media_type="application/octet-stream")
            return JSONResponse(answer if isinstance(answer, dict) else answer.model_dump(mode="json"))

        return app

    def serve(self) -> uvicorn.Server:
        """Start answering on a free loopback port, in a thread; sets ``url``."""
        server = uvicorn.Server(
            uvicorn.Config(self.app(), host="127.0.0.1", port=0, log_level="critical", lifespan="off")
        )
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        return server


def _error(status: int, code: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": code}}, status)


def job_spec(**changes: Any) -> dict[str, Any]:
    """A small job; ``changes`` replace whole sections, or single keys of them if given as mappings."""
    spec: dict[str, Any] = {
        "apiVersion": "secure-train/v1",
        "kind": "TrainingJob",
        "metadata": {"name": "small", "project": "lab", "purpose": "research"},
        "data": {"dataset": "rows"},
        "model": {"kind": "mlp", "hidden": [8]},
        "privacy": {
            "epsilon": 5.0,
            "delta": 1e-5,
            "evaluation": {"epsilon": 1.0, "every": 6},
        },
        "training": {
            "batchSize": 64,
            "steps": 12,
            "optimizer": {"kind": "adam", "learningRate": 0.05},
        },
        "recovery": {"checkpointEvery": 4, "maxFailures": 3},
    }
    for section, value in changes.items():
        spec[section] = {**spec.get(section, {}), **value} if section != "model" else value
    return spec


MakeControl = Callable[..., WorkerControl]
Run = Callable[..., None]


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[MakeControl]:
    with ExitStack() as servers:

        def make(spec: dict[str, Any] | None = None, **settings: Any) -> WorkerControl:
            folder = settings.pop("folder", tmp_path)
            plane = WorkerControl(folder, spec or job_spec(), **settings)
            server = plane.serve()
            servers.callback(setattr, server, "should_exit", True)
            return plane

        yield make


@pytest.fixture
def run() -> Iterator[Run]:
    """Run rank 0 of a group of one to its end, as the driver's worker would."""
    with ExitStack() as clients:

        def run_one(plane: WorkerControl, code: Path | None = None) -> None:
            client = WorkerClient(plane.url, lambda: plane.token, patience=5)
            # Not closed before: the checkpoint writer of a worker that dies in this process goes on.
            clients.callback(client.close)
            collective = Collective(0, 1, torch.device("cpu"))
            job = job_from_json(plane.spec)
            run_worker(Assignment(job, plane.job_id, client, collective, code, lambda: None))

        yield run_one


@pytest.fixture(name="job_spec")
def job_spec_fixture() -> Callable[..., dict[str, Any]]:
    return job_spec


@pytest.fixture
def fault() -> type[Fault]:
    return Fault
