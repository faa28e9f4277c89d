"""A job's life on the control plane's side: submitted, queued, launched, watched, recovered, ended.

Services are imported from their modules: who starts Ray, or asks whether a job has ended, needs no torch.
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

__all__ = [
    "ACTIVE",
    "EDGES",
    "TERMINAL",
    "Diverged",
    "IllegalTransition",
    "JobConflict",
    "JobError",
    "JobNotFound",
    "JobState",
    "LauncherError",
    "LauncherUnreachable",
    "OutOfRestarts",
    "StaleWorker",
    "TicketRefused",
]
