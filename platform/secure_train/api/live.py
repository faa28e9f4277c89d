"""A job's life as server-sent events.

The stream polls the database, so it survives restarts of everything else, and looks at the caller's rights
again before every batch: a revoked token or a changed policy ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from secure_train.api.control_plane import ControlPlane
from secure_train.identity import NotAuthenticated, authenticate
from secure_train.jobs import TERMINAL
from secure_train.jobs.submit import JobUpdate
from secure_train.policy import actors
from secure_train.wire.jobs import JobDetail

POLL_SECONDS = 0.5
ALIVE = b": alive\n\n"
"""Sent at each poll: proxies cut connections that are silent, and a client must notice a lost server."""


def _frame(kind: str, message: BaseModel) -> bytes:
    return f"event: {kind}\ndata: {message.model_dump_json()}\n\n".encode()


async def events(plane: ControlPlane, token: str, first: JobDetail, after: int) -> AsyncIterator[bytes]:
    """Yield frames ``log``, ``progress``, ``release`` and ``job`` until the job has ended."""
    job, progress_seen, releases_seen, last_view = first.job.id, -1, 0, None
    while True:
        update = await run_in_threadpool(_poll, plane, token, job, after, progress_seen)
        if update is None:
            return
        for line in update.logs:
            after = line.seq
            yield _frame("log", line)
        for point in update.progress:
            progress_seen = point.seq
            yield _frame("progress", point)
        for release in update.releases[releases_seen:]:
            yield _frame("release", release)
        releases_seen = len(update.releases)
        if update.job != last_view:
            last_view = update.job
            yield _frame("job", update.job)
        if update.job.state in TERMINAL:
            return
        yield ALIVE
        await anyio.sleep(POLL_SECONDS)


def _poll(plane: ControlPlane, token: str, job: str, after: int, progress_after: int) -> JobUpdate | None:
    """Return what is new, or None if the caller may not see the job any more."""
    with plane.database.read() as session:
        try:
            actor = actors.principal(session, authenticate(session, token))
        except NotAuthenticated:
            return None
        return plane.jobs.peek(session, actor, job, log_after=after, progress_after=progress_after)
