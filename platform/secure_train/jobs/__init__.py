"""A job's life on the control plane's side: submitted, queued, launched, watched, recovered, ended.

`controller` and `launcher` are imported from their modules: not everybody who asks for a job imports Ray.
"""

from secure_train.jobs.errors import (
    Diverged,
    IllegalTransition,
    JobConflict,
    JobError,
    JobNotFound,
    LauncherError,
    LauncherUnreachable,
    OutOfRestarts,
    StaleWorker,
    TicketRefused,
)
from secure_train.jobs.states import ACTIVE, EDGES, TERMINAL, JobState
from secure_train.jobs.submit import JobService, JobUpdate
from secure_train.jobs.worker_service import WorkerService

__all__ = [
    "ACTIVE",
    "EDGES",
    "TERMINAL",
    "Diverged",
    "IllegalTransition",
    "JobConflict",
    "JobError",
    "JobNotFound",
    "JobService",
    "JobState",
    "JobUpdate",
    "LauncherError",
    "LauncherUnreachable",
    "OutOfRestarts",
    "StaleWorker",
    "TicketRefused",
    "WorkerService",
]
