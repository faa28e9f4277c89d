"""The workers of a job's newest group: where they are, or how they ended."""

from __future__ import annotations

from dataclasses import dataclass

from secure_train.api.report import text
from secure_train.jobs import JobState
from secure_train.jobs.states import TERMINAL
from secure_train.wire.jobs import JobDetail, WorkerView


@dataclass(frozen=True)
class Worker:
    """A worker: who it is, the last step it is known to have done, and what became of it."""

    view: WorkerView
    step: int
    fate: str


def workers_of(detail: JobDetail) -> list[Worker]:
    """Return the workers by rank.

    Heartbeats come every two seconds, so that the last one lags behind the end. All ranks take every step
    together: where the job succeeded, each of them has done its last step.
    """
    job, state = detail.job, JobState(detail.job.state)
    if state is JobState.SUCCEEDED:
        return [Worker(view, job.step, "finished with the job") for view in detail.workers]
    ended = state in TERMINAL
    return [
        Worker(
            view,
            view.step,
            f"{'stopped; last ' if ended else ''}heard of {text.moment(view.reported_at)}",
        )
        for view in detail.workers
    ]
