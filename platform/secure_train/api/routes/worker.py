"""What a job's own processes may ask, each under the job's capability and decided at that moment."""

from __future__ import annotations

from fastapi import APIRouter, Response

from secure_train.api.auth import BearerText, Plane
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

router = APIRouter(prefix="/worker", tags=["worker"])


@router.post("/redeem")
def redeem(plane: Plane, body: Redeem) -> JobOrder:
    """Exchange a launch's single-use ticket, this one request's credential, for a capability."""
    return plane.workers.redeem(body)


@router.post("/renew")
def renew(plane: Plane, token: BearerText) -> Capability:
    """Exchange a valid capability for one that lives longer."""
    return plane.workers.renew(token)


@router.get("/code", response_class=Response)
def code(plane: Plane, token: BearerText) -> Response:
    """Return the job's packed working directory."""
    return Response(plane.workers.code(token), media_type="application/octet-stream")


@router.post("/groups")
def start_group(plane: Plane, token: BearerText, body: StartGroup) -> GroupStarted:
    """Announce a new worker group; older groups are fenced off from now on."""
    return plane.workers.start_group(token, body)


@router.post("/dataset")
def open_dataset(plane: Plane, token: BearerText, body: OpenDataset) -> DatasetGrant:
    """Return where the job's dataset lies and the key that opens it."""
    return plane.workers.open_dataset(token, body)


@router.post("/restore")
def restore(plane: Plane, token: BearerText, body: Restore) -> RestoreGrant:
    """Return the checkpoints to restore from and the job's key."""
    return plane.workers.restore(token, body)


@router.post("/restored")
def restored(plane: Plane, token: BearerText, body: Restored) -> Ack:
    """Say from which step training goes on."""
    return plane.workers.restored(token, body)


@router.post("/checkpoints/refused")
def checkpoint_refused(plane: Plane, token: BearerText, body: CheckpointRefused) -> Ack:
    """Record that a checkpoint could not be read, and why."""
    return plane.workers.checkpoint_refused(token, body)


@router.post("/checkpoints")
def commit_checkpoint(plane: Plane, token: BearerText, body: CommitCheckpoint) -> Ack:
    """Record a checkpoint that is durable."""
    return plane.workers.commit_checkpoint(token, body)


@router.post("/charges")
def charge(plane: Plane, token: BearerText, body: Charge) -> Charged:
    """Charge steps before they run."""
    return plane.workers.charge(token, body)


@router.post("/releases")
def release_metrics(plane: Plane, token: BearerText, body: ReleaseMetrics) -> Released:
    """Charge and store noised metrics before anybody sees them."""
    return plane.workers.release_metrics(token, body)


@router.post("/heartbeat")
def heartbeat(plane: Plane, token: BearerText, body: Heartbeat) -> Ack:
    """Say that a worker lives and where it is."""
    return plane.workers.heartbeat(token, body)


@router.post("/failures")
def report_failure(plane: Plane, token: BearerText, body: ReportFailure) -> Ack:
    """Say that a worker died."""
    return plane.workers.report_failure(token, body)


@router.post("/logs")
def report_log(plane: Plane, token: BearerText, body: ReportLog) -> Ack:
    """Add a line to the job's log."""
    return plane.workers.report_log(token, body)


@router.post("/models")
def publish_model(plane: Plane, token: BearerText, body: PublishModel) -> Published:
    """Publish the final model and end the job."""
    return plane.workers.publish_model(token, body)
