"""Policy, decisions, the audit trail, keys and the state of the system."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from secure_train.api.auth import Caller, Plane
from secure_train.audit import EventFilter
from secure_train.wire.evidence import (
    AuditCheckpointView,
    AuditEventView,
    AuditVerification,
    DecisionView,
    InclusionProofView,
    KeyView,
    PolicyView,
    SystemStatus,
)

router = APIRouter(tags=["evidence"])
Limit = Annotated[int, Query(ge=1, le=1000)]


class VerifyRequest(BaseModel):
    """What to verify the trail against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kept_note: str | None = None


@router.get("/policy")
def policy(plane: Plane, caller: Caller) -> PolicyView:
    """Return the active policies and their schema."""
    return plane.evidence.policy(caller)


@router.get("/decisions")
def decisions(
    plane: Plane,
    caller: Caller,
    result: str | None = None,
    principal: str | None = None,
    subject: str | None = None,
    limit: Limit = 50,
) -> list[DecisionView]:
    """List decisions, newest first."""
    return plane.evidence.decisions(caller, result=result, principal=principal, resource=subject, limit=limit)


@router.get("/decisions/{decision}")
def decision(plane: Plane, caller: Caller, decision: str) -> DecisionView:
    """Return one decision: what was asked and which policies determined the answer."""
    return plane.evidence.decision(caller, decision)


@router.get("/audit/events")
def audit_events(
    plane: Plane,
    caller: Caller,
    type: str | None = None,  # noqa: A002 (the field's name in the record)
    actor: str | None = None,
    subject: str | None = None,
    project: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    limit: Limit = 100,
) -> list[AuditEventView]:
    """List events of the audit trail in order."""
    wanted = EventFilter(type, actor, subject, project, since, until)
    return plane.evidence.events(caller, wanted, after=after, limit=limit)


@router.post("/audit/checkpoint")
def audit_checkpoint(plane: Plane, caller: Caller) -> AuditCheckpointView:
    """Sign the trail as it is now."""
    return plane.evidence.checkpoint(caller)


@router.post("/audit/verify")
def audit_verify(plane: Plane, caller: Caller, body: VerifyRequest) -> AuditVerification:
    """Verify the whole trail, and its consistency with a checkpoint that the caller kept."""
    return plane.evidence.verify(caller, body.kept_note)


@router.get("/audit/proofs/{seq}")
def audit_proof(plane: Plane, caller: Caller, seq: int) -> InclusionProofView:
    """Prove that an event is in the signed tree."""
    return plane.evidence.prove(caller, seq)


@router.get("/audit/export", response_class=StreamingResponse)
def audit_export(
    plane: Plane,
    caller: Caller,
    type: str | None = None,  # noqa: A002 (the field's name in the record)
    actor: str | None = None,
    subject: str | None = None,
    project: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> StreamingResponse:
    """Stream the trail, or a part of it with proofs, as JSON lines that verify offline."""
    wanted = EventFilter(type, actor, subject, project, since, until)
    pieces: Iterator[bytes] = plane.evidence.export(caller, wanted)
    return StreamingResponse(pieces, media_type="application/jsonl")


@router.get("/keys")
def keys(plane: Plane, caller: Caller) -> list[KeyView]:
    """List the vault's keys, without secrets."""
    return plane.evidence.keys(caller)


@router.get("/system")
def system(plane: Plane, caller: Caller) -> SystemStatus:
    """Return what runs and whether it is well."""
    return plane.evidence.system(caller, plane.ray_state)
