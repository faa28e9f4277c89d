"""What a job's processes ask of the control plane, each request under the job's capability.

The control plane may be restarted at any time, so a request that got no answer is sent again until
``patience`` has passed; the server answers a repeated request as it answered the first. A refusal is final
and is raised at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import BaseModel

from secure_train.client.errors import ApiError, ServerUnreachable
from secure_train.client.http import Transport
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
)

T = TypeVar("T")
Answer = TypeVar("Answer", bound=BaseModel)
PATIENCE_SECONDS = 600.0
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 10.0
_NO_ANSWER = frozenset({502, 503, 504})


class WorkerClient:
    """One method for each message in ``wire.worker``.

    Args:
        url: the control plane, without ``/api/v1``.
        token_source: returns the current capability, anew for each request; None where there is none yet.
        patience: seconds for which a request without an answer is repeated.

    Every method raises ApiError if the control plane refuses, ServerUnreachable if it gave no answer in time.
    """

    def __init__(
        self, url: str, token_source: Callable[[], str | None], *, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._transport = Transport(url, token_source, _TIMEOUT)
        self._patience = patience

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def redeem(self, body: Redeem) -> JobOrder:
        """Exchange a launch's ticket for a capability. Not repeated: a ticket is good for one request."""
        return self._send("redeem", body, JobOrder)

    def renew(self) -> Capability:
        """Exchange the capability for one that lives longer."""
        return self._repeat(lambda: self._transport.call("POST", "/worker/renew", Capability))

    def code(self) -> bytes:
        """Return the job's packed working directory."""
        return self._repeat(lambda: self._transport.content("GET", "/worker/code"))

    def start_group(self, body: StartGroup) -> GroupStarted:
        """Announce a new worker group."""
        return self._ask("groups", body, GroupStarted)

    def open_dataset(self, body: OpenDataset) -> DatasetGrant:
        """Ask for the dataset's key."""
        return self._ask("dataset", body, DatasetGrant)

    def restore(self, body: Restore) -> RestoreGrant:
        """Ask for checkpoints and the job's key."""
        return self._ask("restore", body, RestoreGrant)

    def restored(self, body: Restored) -> Ack:
        """Say from which step training goes on."""
        return self._ask("restored", body, Ack)

    def commit_checkpoint(self, body: CommitCheckpoint) -> Ack:
        """Record a durable checkpoint."""
        return self._ask("checkpoints", body, Ack)

    def refuse_checkpoint(self, body: CheckpointRefused) -> Ack:
        """Record that a checkpoint cannot be read."""
        return self._ask("checkpoints/refused", body, Ack)

    def charge(self, body: Charge) -> Charged:
        """Charge steps before they run."""
        return self._ask("charges", body, Charged)

    def release_metrics(self, body: ReleaseMetrics) -> Released:
        """Charge and store noised metrics."""
        return self._ask("releases", body, Released)

    def heartbeat(self, body: Heartbeat) -> Ack:
        """Say that a worker lives. Not repeated: the next one comes soon."""
        return self._send("heartbeat", body, Ack)

    def report_failure(self, body: ReportFailure) -> Ack:
        """Say that a worker died."""
        return self._ask("failures", body, Ack)

    def report_log(self, body: ReportLog) -> Ack:
        """Add a line to the job's log."""
        return self._ask("logs", body, Ack)

    def publish_model(self, body: PublishModel) -> Published:
        """Publish the final model and end the job."""
        return self._ask("models", body, Published)

    def _ask(self, path: str, body: BaseModel, answer: type[Answer]) -> Answer:
        return self._repeat(lambda: self._send(path, body, answer))

    def _send(self, path: str, body: BaseModel, answer: type[Answer]) -> Answer:
        return self._transport.call("POST", f"/worker/{path}", answer, json=body.model_dump(mode="json"))

    def _repeat(self, request: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return request()
            except ServerUnreachable:
                if time.monotonic() + pause > deadline:
                    raise
            except ApiError as error:
                if error.status not in _NO_ANSWER or time.monotonic() + pause > deadline:
                    raise
            # Jitter: workers that lost the control plane together must not come back together.
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # not a secret
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
