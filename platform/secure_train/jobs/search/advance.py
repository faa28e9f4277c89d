"""Moves a search along: starts waiting trials as others end, and ends it after the last of them.

One transaction for each look, from rows alone: killed between any two lines, the next look, here or in
another process, does what is left to do. A trial's values are chosen, written down and queued together.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db import Database
from secure_train.db.tables import Search
from secure_train.db.trail import Trail
from secure_train.jobs.journal import log_line
from secure_train.jobs.locks import lock_job
from secure_train.jobs.search.draft import note_values
from secure_train.jobs.search.sampling import Observed, draw_next
from secure_train.jobs.search.states import SearchState, end_search
from secure_train.jobs.search.trials import Trial, best_of, lock_search, trials_of
from secure_train.jobs.states import JobState
from secure_train.jobs.submission import plain_digest
from secure_train.jobs.transitions import transition
from secure_train.spec import SearchJob, SpecErrors, digest, same_cost, search_from_json, trial_of


def running_searches(database: Database) -> list[str]:
    """Return the ids of the searches that may have something to do, oldest first."""
    query = select(Search.id).where(Search.state == SearchState.RUNNING.value).order_by(Search.id)
    with database.read() as session:
        return list(session.scalars(query))


def advance(database: Database, audit: Trail, search_id: str) -> None:
    """Do what is to be done for a search now; nothing if that is nothing."""
    with database.read() as session:
        search = session.get_one(Search, search_id)
        if not _is_due(search, trials_of(session, [search])[search_id]):
            return
    with database.write() as session:
        found = lock_search(session, search_id)
        if found is None or found.state != SearchState.RUNNING:
            return
        spec = search_from_json(found.spec)
        trials = trials_of(session, [found])[search_id]
        free = found.concurrency - sum(not trial.ended and not trial.waits for trial in trials)
        # All at once and by number: a trial that ends locks its dataset, after which no job may be locked.
        starting = [trial for trial in trials if trial.waits][: max(0, free)]
        for trial in starting:
            lock_job(session, trial.job.id)
        for trial in starting:
            if trial.waits:
                _start(session, audit, found, spec, trial, trials)
        if all(trial.ended for trial in trials):
            _end(session, audit, found, spec, trials)


def _is_due(search: Search, trials: Sequence[Trial]) -> bool:
    under_way = sum(not trial.ended and not trial.waits for trial in trials)
    waiting = any(trial.waits for trial in trials)
    return search.state == SearchState.RUNNING and (
        (waiting and under_way < search.concurrency) or not (waiting or under_way)
    )


def _start(
    session: Session, audit: Trail, search: Search, spec: SearchJob, trial: Trial, trials: Sequence[Trial]
) -> None:
    """Queue a trial, once its values are chosen. One whose values make no valid job returns its budget."""
    job, number = trial.job, trial.row.number
    if trial.row.parameters is None:
        before = [
            Observed(one.row.parameters, one.value, one.ended)
            for one in trials
            if one.row.parameters is not None
        ]
        values = draw_next(spec, number, before)
        try:
            chosen = trial_of(spec, values)
        except SpecErrors as errors:
            note_values(session, audit, search, trial.row, values, job.spec_digest)
            problems = "; ".join(f"{error.path} {error.message}" for error in errors.errors)
            reason = f"the values that were drawn make no valid job: {problems}"
            transition(session, audit, job, JobState.CANCELLED, reason)
            log_line(session, job, reason, level="error")
            return
        if not same_cost(chosen, trial_of(spec, {})):
            raise ValueError(f"trial {number} of {search.id} would cost something else than was reserved")
        job.spec = chosen.model_dump(mode="json", by_alias=True)
        job.spec_digest = plain_digest(digest(chosen))
        note_values(session, audit, search, trial.row, values, job.spec_digest)
    reason = f"trial {number} of {search.trials} of {search.id}: waiting for its turn"
    transition(session, audit, job, JobState.QUEUED, reason)
    log_line(session, job, reason)


def _end(session: Session, audit: Trail, search: Search, spec: SearchJob, trials: Sequence[Trial]) -> None:
    objective = spec.search.objective
    best = best_of(trials, objective)
    valued = sum(trial.value is not None for trial in trials)
    if best is None:
        states = sorted({trial.job.state for trial in trials})
        counts = ", ".join(f"{sum(one.job.state == state for one in trials)} {state}" for state in states)
        end_search(
            session,
            audit,
            search,
            SearchState.FAILED,
            f"no trial has released the {objective} of a model: {counts}",
        )
        return
    reason = (
        f"trial {best.row.number} is the best of {valued} with a result, of {search.trials} charged: "
        f"{objective} {best.value:.4g}"
    )
    end_search(session, audit, search, SearchState.SUCCEEDED, reason, best=best.row.number)
