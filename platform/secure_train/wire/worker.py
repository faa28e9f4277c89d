"""Messages between a job's processes in the compute zone and the control plane.

All of them but ``Redeem`` travel under the job's capability. Every request names the worker group's
``generation``, so that a process of an older group cannot act any more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from secure_train.wire.base import Message

Step = Annotated[int, Field(ge=0)]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


Text = Annotated[str, AfterValidator(_printable)]
"""What an author's code may have had a hand in, and people's terminals show: no control sequences."""

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Redeem(Message):
    """Exchange the single-use ticket of a launch for a capability."""

    ticket: str


class Capability(Message):
    """A short-lived signed token for one attempt of one job."""

    token: str
    job_id: str
    attempt: int
    expires_at: datetime


class JobOrder(Message):
    """What the driver must know to start the worker group."""

    capability: Capability
    spec: dict[str, Any]
    code_digest: str | None


class StartGroup(Message):
    """Rank 0 of a new worker group announces it."""

    world_size: Annotated[int, Field(ge=1)]


class GroupStarted(Message):
    """The new group's number, and all that training needs except keys."""

    generation: int
    noise_epoch: int
    final_step: int
    noise_multiplier: float
    sampling_rate: float
    block_store: str


class WorkerRequest(Message):
    """What every later request carries."""

    generation: int


class OpenDataset(WorkerRequest):
    """Ask for the dataset version's data key."""


class DatasetGrant(Message):
    """Where the sealed rows lie and the key that opens them (base64)."""

    manifest_id: str
    digest: str
    data_key: str
    data_schema: dict[str, Any]
    training_rows: int
    holdout_rows: int


class Restore(WorkerRequest):
    """Ask for the checkpoints to restore from and for the job's key."""


class StoredCheckpoint(Message):
    """A checkpoint that has been recorded."""

    step: int
    noise_epoch: int
    manifest_id: str
    digest: str
    state_digest: Hex32


class RestoreGrant(Message):
    """Good checkpoints, newest first; and the job's data key (base64), from which other keys derive."""

    checkpoints: list[StoredCheckpoint]
    data_key: str
    noise_epoch: int


class CheckpointRefused(WorkerRequest):
    """A checkpoint could not be read: which block of which tensor, and why."""

    manifest_id: str
    reason: Annotated[Text, Field(max_length=500)]


class Restored(WorkerRequest):
    """Training goes on from this step (0: from the start)."""

    step: Step


class Charge(WorkerRequest):
    """Charge training steps ``first_step`` ≤ s < ``last_step`` before running them."""

    noise_epoch: int
    first_step: Step
    last_step: Step


class Charged(Message):
    """What the job has been charged in all."""

    epsilon: float
    delta: float
    steps_charged: int


class CommitCheckpoint(WorkerRequest):
    """A checkpoint's manifest is durable: record it.

    Answers ``conflict`` (409) if the same step was recorded with another state digest.
    """

    noise_epoch: int
    step: Step
    manifest_id: Annotated[str, Field(max_length=120)]
    digest: Hex32
    state_digest: Hex32
    logical_bytes: int
    stored_bytes: int
    seconds: float


class ReleaseMetrics(WorkerRequest):
    """Charge and store noised held-out metrics, all in one transaction, before anybody sees them."""

    noise_epoch: int
    step: Step
    state_digest: Hex32
    metrics: dict[str, Any]
    epsilon: Annotated[float, Field(ge=0)]


class Released(Message):
    """The metrics that count: on a repeated request those stored first."""

    metrics: dict[str, Any]
    epsilon: float


class Heartbeat(WorkerRequest):
    """A worker lives. Public figures only."""

    rank: Annotated[int, Field(ge=0)]
    host: Annotated[Text, Field(max_length=128)]
    pid: int
    step: Step
    steps_per_second: Annotated[float, Field(ge=0)]


class Ack(Message):
    """Done."""

    ok: bool = True


class ReportFailure(Message):
    """The driver saw a worker die. ``cause`` is our phrase or an exception's type, never its message.

    ``permanent``: it would happen again (the author's code, the model, the data): the job is to fail at once.
    """

    attempt: int
    cause: Annotated[Text, Field(max_length=200)]
    permanent: bool = False


class ReportLog(WorkerRequest):
    """A line for the job's log, built from the platform's own templates."""

    source: Annotated[Text, Field(max_length=32)]
    level: Annotated[str, Field(pattern="^(info|warning|error)$")]
    message: Annotated[Text, Field(max_length=2000)]


class PublishModel(WorkerRequest):
    """The final weights are durable in the block store: record the model version and end the job."""

    noise_epoch: int
    state_digest: Hex32
    manifest_id: Annotated[str, Field(max_length=120)]
    digest: Hex32


class Published(Message):
    """The model version."""

    model: str
    version: int
