"""Projects, principals and tokens."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import identity
from secure_train.api.auth import Caller, Plane
from secure_train.api.errors import NotFound
from secure_train.audit import Event, JsonValue
from secure_train.db import new_id
from secure_train.db.tables import ApiToken, Principal, Project, ProjectMember
from secure_train.policy import Action, Actor, Resource, resources
from secure_train.wire.people import (
    IssuedToken,
    NewPrincipal,
    NewProject,
    NewToken,
    PrincipalChange,
    PrincipalView,
    ProjectView,
    TokenView,
)

router = APIRouter(tags=["people"])


def _principal_view(session: Session, row: Principal) -> PrincipalView:
    projects = session.scalars(
        select(ProjectMember.project_id)
        .where(ProjectMember.principal_id == row.id)
        .order_by(ProjectMember.project_id)
    )
    return PrincipalView(
        id=row.id,
        kind=row.kind,
        department=row.department,
        clearance=row.clearance,
        roles=row.roles,
        projects=list(projects),
        active=row.active,
    )


def _project_view(session: Session, row: Project) -> ProjectView:
    members = session.scalars(
        select(ProjectMember.principal_id)
        .where(ProjectMember.project_id == row.id)
        .order_by(ProjectMember.principal_id)
    )
    return ProjectView(id=row.id, max_running_jobs=row.max_running_jobs, members=list(members))


def _token_view(row: ApiToken) -> TokenView:
    return TokenView(
        id=row.id,
        principal=row.principal_id,
        label=row.label,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _principal_resource(session: Session, principal: str) -> tuple[Principal | None, Resource]:
    row = session.get(Principal, principal)
    return row, resources.missing("principal", principal) if row is None else resources.principal(
        session, row
    )


def _authorize_principal(
    session: Session, plane: Plane, caller: Actor, action: Action, principal: str
) -> Principal:
    row, resource = _principal_resource(session, principal)
    plane.guard.authorize(session, caller, action, resource)
    if row is None:
        raise NotFound(f"there is no principal {principal!r}; `secure-train people list` shows them")
    return row


def _record(
    session: Session, plane: Plane, caller: Actor, kind: str, subject: str, **data: JsonValue
) -> None:
    event = Event(type=kind, actor=caller.id, subject=subject, data=data, idempotency_key=new_id("evt"))
    plane.trail.append(session, event)


@router.get("/whoami")
def whoami(plane: Plane, caller: Caller) -> PrincipalView:
    """Return the principal that the token belongs to."""
    with plane.guard.transaction() as session:
        row = _authorize_principal(session, plane, caller, Action.PRINCIPAL_READ, caller.id)
        return _principal_view(session, row)


@router.post("/login")
def login(plane: Plane, caller: Caller) -> PrincipalView:
    """Confirm that the token works, and record that its principal has logged in."""
    with plane.guard.transaction() as session:
        row = _authorize_principal(session, plane, caller, Action.PRINCIPAL_READ, caller.id)
        _record(session, plane, caller, "principal.login", caller.id)
        return _principal_view(session, row)


@router.post("/projects", status_code=201)
def create_project(plane: Plane, caller: Caller, body: NewProject) -> ProjectView:
    """Create a project."""
    with plane.guard.transaction() as session:
        plane.guard.authorize(session, caller, Action.PROJECT_CREATE, resources.catalog("projects"))
        row = identity.create_project(session, body.id, max_running_jobs=body.max_running_jobs)
        _record(session, plane, caller, "project.created", f"project:{row.id}")
        return _project_view(session, row)


@router.get("/projects")
def list_projects(plane: Plane, caller: Caller) -> list[ProjectView]:
    """List the projects that the caller may see."""
    with plane.guard.transaction() as session:
        plane.guard.authorize(session, caller, Action.PROJECT_READ, resources.catalog("projects"))
        rows = list(session.scalars(select(Project).order_by(Project.id)))
        visible = plane.guard.visible(
            session, caller, Action.PROJECT_READ, [resources.project(row.id) for row in rows]
        )
        return [_project_view(session, row) for row, seen in zip(rows, visible, strict=True) if seen]


@router.post("/principals", status_code=201)
def create_principal(plane: Plane, caller: Caller, body: NewPrincipal) -> PrincipalView:
    """Create a person or a service."""
    with plane.guard.transaction() as session:
        plane.guard.authorize(session, caller, Action.PRINCIPAL_CREATE, resources.catalog("principals"))
        row = identity.create_principal(
            session,
            body.id,
            department=body.department,
            clearance=body.clearance,
            roles=body.roles,
            projects=body.projects,
        )
        _record(session, plane, caller, "principal.created", row.id, **body.model_dump(exclude={"id"}))
        return _principal_view(session, row)


@router.get("/principals")
def list_principals(plane: Plane, caller: Caller) -> list[PrincipalView]:
    """List the principals that the caller may see."""
    with plane.guard.transaction() as session:
        plane.guard.authorize(session, caller, Action.PRINCIPAL_READ, resources.catalog("principals"))
        rows = list(session.scalars(select(Principal).order_by(Principal.id)))
        visible = plane.guard.visible(
            session, caller, Action.PRINCIPAL_READ, [resources.principal(session, row) for row in rows]
        )
        return [_principal_view(session, row) for row, seen in zip(rows, visible, strict=True) if seen]


@router.patch("/principals/{principal}")
def change_principal(plane: Plane, caller: Caller, principal: str, body: PrincipalChange) -> PrincipalView:
    """Change a principal's attributes; policy sees them from the next operation on."""
    with plane.guard.transaction() as session:
        row = _authorize_principal(session, plane, caller, Action.PRINCIPAL_UPDATE, principal)
        change = body.model_dump(exclude_none=True)
        identity.update_principal(session, row, **change)
        _record(session, plane, caller, "principal.changed", row.id, **change)
        return _principal_view(session, row)


@router.post("/principals/{principal}/tokens", status_code=201)
def issue_token(plane: Plane, caller: Caller, principal: str, body: NewToken) -> IssuedToken:
    """Issue a token. The secret is in this answer and nowhere else."""
    with plane.guard.transaction() as session:
        row = _authorize_principal(session, plane, caller, Action.PRINCIPAL_TOKEN, principal)
        token, secret = identity.issue_token(session, row.id, label=body.label, days=body.days)
        _record(session, plane, caller, "token.issued", row.id, token=token.id, days=body.days)
        return IssuedToken(token=_token_view(token), secret=secret)


@router.get("/principals/{principal}/tokens")
def list_tokens(plane: Plane, caller: Caller, principal: str) -> list[TokenView]:
    """List a principal's tokens, without secrets."""
    with plane.guard.transaction() as session:
        row = _authorize_principal(session, plane, caller, Action.PRINCIPAL_TOKEN, principal)
        tokens = session.scalars(
            select(ApiToken).where(ApiToken.principal_id == row.id).order_by(ApiToken.id)
        )
        return [_token_view(token) for token in tokens]


@router.delete("/principals/{principal}/tokens/{token}")
def revoke_token(plane: Plane, caller: Caller, principal: str, token: str) -> TokenView:
    """Revoke a token; the next request with it is refused."""
    with plane.guard.transaction() as session:
        row = _authorize_principal(session, plane, caller, Action.PRINCIPAL_REVOKE, principal)
        found = session.get(ApiToken, token)
        if found is None or found.principal_id != row.id:
            raise NotFound(f"{row.id} has no token {token!r}")
        identity.revoke_token(session, found)
        _record(session, plane, caller, "token.revoked", row.id, token=found.id)
        return _token_view(found)
