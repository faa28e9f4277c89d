"""What can go wrong with a job, as its callers must tell it apart."""

from __future__ import annotations

from secure_train.policy.errors import InvalidCapability


class JobError(Exception):
    """Root of this package's errors."""


class JobNotFound(JobError):
    """There is no such job, and the caller may know that."""


class JobConflict(JobError):
    """The request does not fit the state that the job is in."""


class IllegalTransition(JobConflict):
    """The job's state has no edge to the state that was asked for."""


class OutOfRestarts(JobConflict):
    """The job has died more often than its author allowed."""


class Diverged(JobConflict):
    """A step that ran twice gave two values: the worker group must restart in a fresh noise epoch."""


class Unreadable(JobConflict):
    """What a worker wrote cannot be read back: a new worker group may write it better."""


class StaleWorker(JobError):
    """The caller belongs to an older worker group or noise epoch and must end itself."""


class TicketRefused(JobError, InvalidCapability):
    """The ticket is unknown, expired or was redeemed before."""


class LauncherError(JobError):
    """Ray refused a request."""


class LauncherUnreachable(LauncherError):
    """Ray's Jobs API does not answer; nothing is known about what it runs."""
