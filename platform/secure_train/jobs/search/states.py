"""The states of a search, and its one way from one to another."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from secure_train.audit import Event
from secure_train.db import now
from secure_train.db.tables import Search
from secure_train.db.trail import Trail
from secure_train.jobs.errors import IllegalTransition


class SearchState(StrEnum):
    """Where a search stands.

    ``running``: its trials' budgets are held; some wait, run or have ended. ``succeeded``: all trials have
    ended, and the best of them is chosen. ``failed``: all have ended, and none has a result. ``cancelled``,
    ``denied``: by a person; by policy or the budget, with no trial at all. All but the first are ends.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DENIED = "denied"


def end_search(
    session: Session,
    audit: Trail,
    search: Search,
    target: SearchState,
    reason: str,
    *,
    best: int | None = None,
    actor: str = "system",
) -> None:
    """End a running search, whose row the caller has locked, in the caller's transaction.

    Raises:
        IllegalTransition: it has ended before.
    """
    if search.state != SearchState.RUNNING:
        raise IllegalTransition(f"search {search.id} is {search.state}: it has ended for good")
    search.state, search.reason = target.value, reason
    search.best_trial, search.finished_at = best, now()
    session.flush()
    data = {"reason": reason, "best_trial": best}
    audit.append(session, search_event(f"search.{target.value}", search, target.value, data, actor))


def search_event(kind: str, search: Search, key: str | int, data: dict[str, Any], actor: str) -> Event:
    """Build an audit event about a search; ``key`` tells occurrences of the same kind apart."""
    return Event(
        type=kind,
        actor=actor,
        subject=f"search:{search.id}",
        project=search.project_id,
        data=data,
        idempotency_key=f"{search.id}:{kind}:{key}",
    )
