"""Who takes part in the demo: an administrator, the owner of the data, and an engineer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from secure_train.client import Client
from secure_train.wire.people import NewPrincipal, NewProject, NewToken

PROJECT = "census"
CONFIDENTIAL = 2
TOKEN_DAYS = 1
OWNER, ENGINEER = "user:olivia", "user:erin"


@dataclass(frozen=True, slots=True)
class Cast:
    """Each person's own connection, and token."""

    admin: Client
    owner: Client
    engineer: Client
    tokens: dict[str, str]


@contextmanager
def gather(url: str, admin_token: str) -> Iterator[Cast]:
    """Create project and people as the administrator, and connect as each of them."""
    with ExitStack() as opened:
        admin = opened.enter_context(Client(url, admin_token))
        admin.create_project(NewProject(id=PROJECT))
        tokens = {"user:admin": admin_token}
        people = (
            NewPrincipal(id=OWNER, roles=["data-owner"], projects=[PROJECT], clearance=CONFIDENTIAL),
            NewPrincipal(id=ENGINEER, roles=["engineer"], projects=[PROJECT], clearance=CONFIDENTIAL),
        )
        for person in people:
            admin.create_principal(person)
            tokens[person.id] = admin.issue_token(person.id, NewToken(label="demo", days=TOKEN_DAYS)).secret
        owner = opened.enter_context(Client(url, tokens[OWNER]))
        engineer = opened.enter_context(Client(url, tokens[ENGINEER]))
        yield Cast(admin, owner, engineer, tokens)
