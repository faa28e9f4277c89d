"""The states of a job, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands.

    ``submitted``: recorded. ``queued``: its budget is reserved; it waits for its turn. ``starting``: handed
    to Ray, no worker group yet. ``running``: a worker group trains. ``recovering``: something died; training
    has not yet gone beyond the step it was restored to. The others are ends.
    """

    SUBMITTED = "submitted"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DENIED = "denied"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DENIED})
ACTIVE = frozenset({JobState.STARTING, JobState.RUNNING, JobState.RECOVERING})
"""States in which the job occupies the cluster."""

EDGES: dict[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: frozenset({JobState.QUEUED, JobState.DENIED, JobState.CANCELLED}),
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.CANCELLED}),
    JobState.STARTING: frozenset(
        {JobState.RUNNING, JobState.RECOVERING, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.RECOVERING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    # To itself: another death before training got anywhere.
    JobState.RECOVERING: frozenset(
        {JobState.RECOVERING, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.DENIED: frozenset(),
}
