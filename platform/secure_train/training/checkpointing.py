"""Writing checkpoints while training goes on. One at a time; in the order durable, recorded, released.

Nothing of a step leaves the worker before its checkpoint is recorded: only then does the control plane hold
the digest that a re-run of the step must reproduce.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from secure_train.blocks import BlockStore, ManifestRef
from secure_train.client.worker_client import WorkerClient
from secure_train.training.state import KIND, Snapshot
from secure_train.vault import DataKey
from secure_train.wire.worker import CommitCheckpoint

Afterwards = Callable[[], None]


class CheckpointWriter:
    """Rank 0's background thread. What goes wrong in it is raised by the next call of any method.

    Args:
        job_id: names the job's folder in the store.
        generation: of this worker group.
    """

    def __init__(
        self, store: BlockStore, key: DataKey, client: WorkerClient, job_id: str, generation: int
    ) -> None:
        self._store = store
        self._key = key
        self._client = client
        self._job_id = job_id
        self._generation = generation
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def submit(self, snapshot: Snapshot, afterwards: Afterwards | None = None) -> None:
        """Write a checkpoint, then run ``afterwards``. Waits first for the one that is being written."""
        self.drain()
        self._running = self._pool.submit(self._write, snapshot, time.monotonic(), afterwards)

    def check(self) -> None:
        """Raise what went wrong so far, without waiting."""
        if self._running is not None and self._running.done():
            self.drain()

    def drain(self) -> None:
        """Wait until everything that was submitted is durable, recorded and released."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def write_model(self, snapshot: Snapshot) -> ManifestRef:
        """Store the weights alone, durably, under the job's key. Repeated, it stores nothing twice."""
        return self._store.write(
            self._key,
            snapshot.weights,
            snapshot.meta,
            manifest_id=self._manifest_id("model", snapshot),
            kind="model",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not waited for: a write that hangs must not keep a failing worker from saying so.
        self._pool.shutdown(wait=False)

    def _write(self, snapshot: Snapshot, began: float, afterwards: Afterwards | None) -> None:
        manifest_id = self._manifest_id("checkpoint", snapshot)
        ref = self._store.write(
            self._key, snapshot.tensors, snapshot.meta, manifest_id=manifest_id, kind=KIND
        )
        self._client.commit_checkpoint(
            CommitCheckpoint(
                generation=self._generation,
                noise_epoch=snapshot.noise_epoch,
                step=snapshot.step,
                manifest_id=ref.id,
                digest=ref.digest,
                state_digest=snapshot.state_digest,
                logical_bytes=ref.logical_bytes,
                stored_bytes=ref.stored_bytes,
                seconds=round(time.monotonic() - began, 3),
            )
        )
        if afterwards is not None:
            afterwards()

    def _manifest_id(self, kind: str, snapshot: Snapshot) -> str:
        """A name of this group's own: an older group's manifest of the same step may be damaged.

        The blocks of an identical state are stored once all the same.
        """
        position = f"{snapshot.noise_epoch}-{snapshot.step:09d}"
        return f"{self._job_id}/{kind}-{position}-{snapshot.state_digest[:16]}-g{self._generation}"
