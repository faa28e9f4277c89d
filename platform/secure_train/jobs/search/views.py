"""Rows of searches as the messages that people read."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db.tables import Dataset, Search
from secure_train.jobs.search.states import SearchState
from secure_train.jobs.search.trials import Trial, best_of, trials_of
from secure_train.jobs.views import job_views
from secure_train.ledger.exact import rounded_up, total
from secure_train.wire.jobs import JobView
from secure_train.wire.searches import SearchDetail, SearchView, TrialView


def search_views(session: Session, searches: Sequence[Search]) -> list[SearchView]:
    """Show searches as they stand; a fixed number of queries, however many there are."""
    trials = trials_of(session, searches)
    views = {
        view.id: view for view in job_views(session, [one.job for some in trials.values() for one in some])
    }
    query = select(Dataset.id, Dataset.name).where(Dataset.id.in_({one.dataset_id for one in searches}))
    datasets = dict(session.execute(query).all())
    return [_view(search, trials[search.id], views, datasets[search.dataset_id]) for search in searches]


def search_detail(session: Session, search: Search) -> SearchDetail:
    """Show a search with all its trials."""
    trials = trials_of(session, [search])[search.id]
    views = {view.id: view for view in job_views(session, [trial.job for trial in trials])}
    dataset = session.get_one(Dataset, search.dataset_id)
    return SearchDetail(
        search=_view(search, trials, views, dataset.name),
        spec=search.spec,
        spec_digest=f"sha256:{search.spec_digest}",
        code_digest=None if search.code_digest is None else f"sha256:{search.code_digest}",
        trials=[_trial(trial, views[trial.job.id]) for trial in trials],
    )


def _view(search: Search, trials: list[Trial], jobs: dict[str, JobView], dataset: str) -> SearchView:
    settings = search.spec["search"]
    if search.state == SearchState.RUNNING:
        best = best_of(trials, settings["objective"])
    else:
        # As it was chosen: a trial that is resumed afterwards changes nothing.
        best = next((trial for trial in trials if trial.row.number == search.best_trial), None)
    return SearchView(
        id=search.id,
        name=search.name,
        project=search.project_id,
        purpose=search.purpose,
        submitted_by=search.submitted_by,
        state=search.state,
        reason=search.reason,
        dataset=dataset,
        dataset_version=search.dataset_version,
        sampler=settings["sampler"],
        objective=settings["objective"],
        trials=search.trials,
        concurrency=search.concurrency,
        ended_trials=sum(trial.ended for trial in trials),
        epsilon=rounded_up(total(trial.job.epsilon for trial in trials)),
        delta=rounded_up(total(trial.job.delta for trial in trials)),
        spent_epsilon=rounded_up(total(jobs[trial.job.id].spent_epsilon for trial in trials)),
        best=None if best is None else _trial(best, jobs[best.job.id]),
        created_at=search.created_at,
        finished_at=search.finished_at,
    )


def _trial(trial: Trial, job: JobView) -> TrialView:
    return TrialView(
        number=trial.row.number,
        job=job.id,
        state=job.state,
        phase=job.phase,
        reason=job.reason,
        parameters=trial.row.parameters,
        value=trial.value,
        metrics=job.metrics,
        step=job.step,
        steps=job.steps,
        epsilon=job.epsilon,
        delta=job.delta,
        spent_epsilon=job.spent_epsilon,
        model=job.model,
    )
