"""Messages about projects, principals and tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from secure_train.wire.base import Message
from secure_train.wire.names import PrincipalId, Slug

RoleName = Literal["admin", "engineer", "data-owner", "auditor", "operator"]


class NewProject(Message):
    """Create a project."""

    id: Slug
    max_running_jobs: Annotated[int, Field(ge=1, le=1000)] = 1


class ProjectView(Message):
    """A project and who belongs to it."""

    id: str
    max_running_jobs: int
    members: list[str]


class NewPrincipal(Message):
    """Create a person or a service. ``id`` is ``user:NAME`` or ``service:NAME``."""

    id: PrincipalId
    department: Annotated[str, Field(max_length=64)] = ""
    clearance: Annotated[int, Field(ge=0, le=3)] = 0
    roles: list[RoleName] = []
    projects: list[Slug] = []


class PrincipalChange(Message):
    """Change attributes; absent fields stay as they are."""

    department: Annotated[str, Field(max_length=64)] | None = None
    clearance: Annotated[int, Field(ge=0, le=3)] | None = None
    roles: list[RoleName] | None = None
    projects: list[Slug] | None = None
    active: bool | None = None


class PrincipalView(Message):
    """A principal as policy sees it."""

    id: str
    kind: Literal["user", "service"]
    department: str
    clearance: int
    roles: list[str]
    projects: list[str]
    active: bool


class NewToken(Message):
    """Issue a token."""

    label: Annotated[str, Field(max_length=64)] = ""
    days: Annotated[int, Field(ge=1, le=366)] = 90


class TokenView(Message):
    """A token without its secret."""

    id: str
    principal: str
    label: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class IssuedToken(Message):
    """A new token with its secret, which is shown this once."""

    token: TokenView
    secret: str
