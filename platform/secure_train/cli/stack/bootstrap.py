"""The first administrator of a new database."""

from __future__ import annotations

from collections.abc import Callable

from secure_train.api.settings import Settings
from secure_train.audit import AuditLog, Event
from secure_train.db import Database, new_id
from secure_train.db.trail import Trail
from secure_train.identity import bootstrap_admin


def first_admin(settings: Settings, keep: Callable[[str], None]) -> str | None:
    """Create the first administrator and return the token; None if the database has principals already.

    ``keep`` stores the token and is called before the commit: if everything ends in between, a token is kept
    that never works and the next start makes another; the other way round nobody could ever log in.
    """
    database = Database(settings.database_url)
    try:
        with database.write() as session:
            made = bootstrap_admin(session)
            if made is None:
                return None
            principal, secret = made
            event = Event(
                type="principal.created",
                actor=principal.id,
                subject=principal.id,
                data={"roles": list(principal.roles), "first": True},
                idempotency_key=new_id("evt"),
            )
            Trail(AuditLog(settings.origin)).append(session, event)
            keep(secret)
        return secret
    finally:
        database.close()
