"""Alembic's entry point: runs migrations on the connection that `secure_train.db.migrate` hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from secure_train.audit.tables import metadata as audit_metadata
from secure_train.db import Base
from secure_train.db.base import UtcDateTime
from secure_train.db.tables import Job  # noqa: F401 (importing one table's package registers them all)


def _render(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Write our own column type as the plain one it is stored as: migrations must not import live code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[Base.metadata, audit_metadata],
    render_item=_render,
    compare_server_default=True,
)
context.run_migrations()
