"""Who is asking. The Authorization header's token is looked up; nothing else in a request is believed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from secure_train.api.control_plane import ControlPlane
from secure_train.identity import NotAuthenticated, authenticate
from secure_train.policy import Actor, actors

bearer = HTTPBearer(auto_error=False, description="An API token, `st_…`; workers use their job's capability.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def control_plane(request: Request) -> ControlPlane:
    """Return the control plane that this application serves."""
    plane: ControlPlane = request.app.state.control_plane
    return plane


Plane = Annotated[ControlPlane, Depends(control_plane)]


def bearer_text(credentials: Credentials) -> str:
    """Return the bearer token's text."""
    if credentials is None:
        raise NotAuthenticated(
            "send `Authorization: Bearer TOKEN`; `secure-train login` sets it up for the CLI"
        )
    return credentials.credentials


BearerText = Annotated[str, Depends(bearer_text)]


def caller(plane: Plane, token: BearerText) -> Actor:
    """Return the principal that the token belongs to, with its attributes from the database."""
    with plane.database.read() as session:
        return actors.principal(session, authenticate(session, token))


def is_known(plane: ControlPlane, token: str) -> bool:
    """Whether an API token is valid now."""
    try:
        with plane.database.read() as session:
            authenticate(session, token)
    except NotAuthenticated:
        return False
    return True


Caller = Annotated[Actor, Depends(caller)]
