"""Creating and changing principals and projects.

Authorisation and audit are the caller's: these functions only keep the rows right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from secure_train.db.tables import Principal, Project, ProjectMember
from secure_train.identity.errors import AlreadyExists, InvalidIdentity
from secure_train.identity.roles import Role
from secure_train.identity.tokens import MAX_DAYS, issue_token

FIRST_ADMIN = "user:admin"
MAX_CLEARANCE = 3
MAX_DEPARTMENT = 64

_PRINCIPAL = re.compile(r"(user|service):[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def create_project(session: Session, project_id: str, max_running_jobs: int = 1) -> Project:
    """Create a project without members.

    Raises:
        AlreadyExists: there is one of this name.
        InvalidIdentity: the name or the limit is not allowed.
    """
    if not _PROJECT.fullmatch(project_id):
        raise InvalidIdentity(
            f"id: {project_id!r} is not a project name: use at most 63 of a-z, 0-9 and inner hyphens"
        )
    if max_running_jobs < 1:
        raise InvalidIdentity(f"max_running_jobs: {max_running_jobs} is below 1")
    if session.get(Project, project_id) is not None:
        raise AlreadyExists(f"the project {project_id!r} exists")
    project = Project(id=project_id, max_running_jobs=max_running_jobs)
    session.add(project)
    session.flush()
    return project


def create_principal(
    session: Session,
    principal_id: str,
    *,
    department: str = "",
    clearance: int = 0,
    roles: Sequence[str] = (),
    projects: Sequence[str] = (),
) -> Principal:
    """Create a person (`user:NAME`) or a service (`service:NAME`), active and without a token.

    Raises:
        AlreadyExists: there is one of this id.
        InvalidIdentity: the id, a role, a project or another attribute is not allowed.
    """
    if not _PRINCIPAL.fullmatch(principal_id):
        raise InvalidIdentity(
            f"id: {principal_id!r} is not a principal: write user:NAME or service:NAME, NAME of at most "
            "63 of a-z, 0-9 and inner '.', '_', '-'"
        )
    if session.get(Principal, principal_id) is not None:
        raise AlreadyExists(f"the principal {principal_id!r} exists")
    principal = Principal(
        id=principal_id,
        kind=principal_id.partition(":")[0],
        department=_department(department),
        clearance=_clearance(clearance),
        roles=_roles(roles),
        active=True,
    )
    session.add(principal)
    session.flush()
    _set_projects(session, principal, projects)
    return principal


def update_principal(
    session: Session,
    principal: Principal,
    *,
    department: str | None = None,
    clearance: int | None = None,
    roles: Sequence[str] | None = None,
    projects: Sequence[str] | None = None,
    active: bool | None = None,
) -> None:
    """Change the attributes that are given. `roles` and `projects` replace those of before.

    Raises:
        InvalidIdentity: a value is not allowed; nothing was changed.
    """
    changes = {
        "department": None if department is None else _department(department),
        "clearance": None if clearance is None else _clearance(clearance),
        "roles": None if roles is None else _roles(roles),
        "active": active,
    }
    if projects is not None:
        _set_projects(session, principal, projects)
    for name, value in changes.items():
        if value is not None:
            setattr(principal, name, value)
    session.flush()


def bootstrap_admin(session: Session) -> tuple[Principal, str] | None:
    """Create `user:admin` with a token, if the database has no principal at all; otherwise return None.

    There is no default password: the secret is random and in this return value only.
    """
    if session.scalar(select(exists().where(Principal.id.is_not(None)))):
        return None
    principal = create_principal(session, FIRST_ADMIN, clearance=0, roles=[Role.ADMIN])
    _, secret = issue_token(session, principal.id, "bootstrap", MAX_DAYS)
    return principal, secret


def _set_projects(session: Session, principal: Principal, projects: Iterable[str]) -> None:
    wanted = set(projects)
    known = set(session.scalars(select(Project.id).where(Project.id.in_(wanted))))
    if wanted - known:
        missing = ", ".join(sorted(wanted - known))
        raise InvalidIdentity(f"projects: there is no project {missing}; create it first")
    session.execute(delete(ProjectMember).where(ProjectMember.principal_id == principal.id))
    session.add_all(ProjectMember(project_id=name, principal_id=principal.id) for name in sorted(wanted))
    session.flush()


def _roles(roles: Iterable[str]) -> list[str]:
    names = [role.value for role in Role]
    wrong = sorted(set(roles) - set(names))
    if wrong:
        raise InvalidIdentity(f"roles: {', '.join(wrong)}: not among {', '.join(names)}")
    return [name for name in names if name in set(roles)]


def _clearance(value: int) -> int:
    if not 0 <= value <= MAX_CLEARANCE:
        raise InvalidIdentity(
            f"clearance: {value} is not between 0 (public) and {MAX_CLEARANCE} (restricted)"
        )
    return value


def _department(value: str) -> str:
    if len(value) > MAX_DEPARTMENT:
        raise InvalidIdentity(f"department: {len(value)} characters; at most {MAX_DEPARTMENT} are kept")
    return value
