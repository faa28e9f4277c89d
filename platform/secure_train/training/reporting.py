"""What Ray Train tells of dying workers, told to the control plane."""

from __future__ import annotations

from typing import Any

from ray.train import UserCallback

from secure_train.client.errors import ApiError
from secure_train.client.worker_client import WorkerClient
from secure_train.training.credential import token_source
from secure_train.training.failures import (
    CAUSE_LENGTH,
    Diverged,
    Fenced,
    PeerLost,
    PermanentFailure,
    WorkerFailure,
    refused,
)
from secure_train.wire.worker import ReportFailure

# Of what several workers say at once, the most telling counts: PeerLost is but an echo of another's death.
_TELLING = (PermanentFailure, Fenced, Diverged)
_DIED = "WorkerHealthCheckFailedError"
_HANGS = "WorkerHealthCheckTimeoutError"


class FailureReporter(UserCallback):
    """Runs in Ray Train's controller after a poll that found a dead worker, before the group is restarted.

    What it raises ends the run at once: Ray Train retries failures of workers, not of its callbacks.
    """

    def __init__(self, url: str, attempt: int, keeper: Any) -> None:
        self._url = url
        self._attempt = attempt
        self._keeper = keeper

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Report the most telling failure; raise it if another try would be in vain."""
        rank, failure = most_telling(worker_exceptions)
        if isinstance(failure, Fenced):
            raise failure
        client = WorkerClient(self._url, token_source(self._keeper))
        permanent = isinstance(failure, PermanentFailure)
        cause = f"worker {rank}: {failure.cause}"[:CAUSE_LENGTH]
        try:
            client.report_failure(ReportFailure(attempt=self._attempt, cause=cause, permanent=permanent))
        except ApiError as error:
            # Raised as our own kind: it goes to the driver by pickle.
            raise refused(error) from None
        finally:
            client.close()
        if permanent:
            raise failure


def most_telling(worker_exceptions: dict[int, Exception]) -> tuple[int, WorkerFailure]:
    """The failure that explains the others, and its rank."""
    failures = {rank: _as_failure(error) for rank, error in worker_exceptions.items()}

    def echo(rank: int) -> tuple[int, int]:
        kinds = [place for place, kind in enumerate(_TELLING) if isinstance(failures[rank], kind)]
        ordinary = len(_TELLING) + isinstance(failures[rank], PeerLost)
        return (kinds[0] if kinds else ordinary, rank)

    rank = min(failures, key=echo)
    return rank, failures[rank]


def _as_failure(error: Exception) -> WorkerFailure:
    if isinstance(error, WorkerFailure):
        return error
    # Ray does not export these two types.
    name = type(error).__name__
    if name == _DIED:
        return WorkerFailure("its process died")
    return WorkerFailure("it stopped answering" if name == _HANGS else name)
