"""The trials of a search as its rows have them: their jobs, what they released, and which is the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import Job, JobRelease, Search, SearchTrial
from secure_train.jobs.search.sampling import LEAST
from secure_train.jobs.states import TERMINAL, JobState


@dataclass(frozen=True)
class Trial:
    """A trial with its job.

    Attributes:
        value: released metric of the model that it published; None if it published none, or released none
            for it.
    """

    row: SearchTrial
    job: Job
    value: float | None

    @property
    def ended(self) -> bool:
        """Whether its job has."""
        return self.job.state in TERMINAL

    @property
    def waits(self) -> bool:
        """Whether it waits for its turn within the search."""
        return self.job.state == JobState.SUBMITTED


def lock_search(session: Session, search_id: str) -> Search | None:
    """Return the search as it is now; nobody else changes it before this transaction ends.

    Locked before any job of it.
    """
    query = select(Search).where(Search.id == search_id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def trials_of(session: Session, searches: Sequence[Search]) -> dict[str, list[Trial]]:
    """Return the trials of each search, by number; two queries, however many there are."""
    objectives = {search.id: search.spec["search"]["objective"] for search in searches}
    query = (
        select(SearchTrial, Job)
        .join(Job, Job.id == SearchTrial.job_id)
        .where(SearchTrial.search_id.in_(objectives))
        .order_by(SearchTrial.search_id, SearchTrial.number)
    )
    found = [(row, job) for row, job in session.execute(query.execution_options(populate_existing=True))]
    metrics = _final_metrics(session, [job for _, job in found])
    trials: dict[str, list[Trial]] = {search.id: [] for search in searches}
    for row, job in found:
        value = metrics.get(job.id, {}).get(objectives[row.search_id])
        trials[row.search_id].append(Trial(row, job, value))
    return trials


def best_of(trials: Iterable[Trial], objective: str) -> Trial | None:
    """Return the trial with the best value, of equals the first; None if none has one.

    A function of released values, whose noise it does not see through: post-processing.
    """
    sign = 1 if objective in LEAST else -1
    valued = [(sign * trial.value, trial.row.number, trial) for trial in trials if trial.value is not None]
    return min(valued, key=lambda entry: entry[:2])[2] if valued else None


def _final_metrics(session: Session, jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """What was released for the model that each job published: at its last step, in its last noise epoch."""
    ends = {(job.id, job.noise_epoch, job.step): job.id for job in jobs if job.state == JobState.SUCCEEDED}
    query = select(JobRelease).where(JobRelease.job_id.in_(ends.values()))
    return {
        row.job_id: row.metrics
        for row in session.scalars(query)
        if (row.job_id, row.noise_epoch, row.step) in ends
    }
