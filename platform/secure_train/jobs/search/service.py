"""Searches as people use them: plan, submit, watch, cancel."""

from __future__ import annotations

import builtins

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.db import Database
from secure_train.db.tables import Search
from secure_train.db.trail import Trail
from secure_train.jobs.errors import JobNotFound
from secure_train.jobs.journal import log_line
from secure_train.jobs.locks import lock_job
from secure_train.jobs.search.admission import Admission
from secure_train.jobs.search.states import SearchState, end_search
from secure_train.jobs.search.trials import best_of, lock_search, trials_of
from secure_train.jobs.search.views import search_detail, search_views
from secure_train.jobs.states import JobState
from secure_train.jobs.transitions import transition
from secure_train.policy import Action, Actor, Guard, resources
from secure_train.wire.searches import PlanSearch, SearchDetail, SearchPlan, SearchView, SubmitSearch

PAGE = 200


class SearchService:
    """Every request is decided on in the transaction of what it does.

    Policies take a search for a job, with the action ``job:submit`` for each of its trials.
    """

    def __init__(self, guard: Guard, audit: Trail, database: Database, admission: Admission) -> None:
        self._guard = guard
        self._audit = audit
        self._database = database
        self._admission = admission

    def plan(self, actor: Actor, message: PlanSearch) -> SearchPlan:
        """Say what a search would cost and whether it would be allowed; see `Admission.plan`."""
        return self._admission.plan(actor, message)

    def submit(self, actor: Actor, message: SubmitSearch) -> str:
        """Submit a search and return its id; see `Admission.submit`."""
        return self._admission.submit(actor, message)

    def cancel(self, actor: Actor, search_id: str) -> SearchView:
        """End a search and every trial that has not ended; what they did not spend goes back.

        Raises:
            Denied, JobNotFound.
            IllegalTransition: it has ended in another way.
        """
        with self._guard.transaction() as session:
            search = self._authorized(session, actor, Action.JOB_CANCEL, search_id)
            if search is not None:
                if search.state != SearchState.CANCELLED:
                    self._cancel(session, actor, search)
                return search_views(session, [search])[0]
        raise _no_search(search_id)

    def list(
        self, actor: Actor, *, project: str | None, state: str | None, limit: int, after: str | None
    ) -> list[SearchView]:
        """List the searches that the actor may read, newest first; ``after`` is the last id before."""
        with self._guard.transaction() as session:
            self._guard.authorize(session, actor, Action.JOB_READ, resources.catalog("jobs"))
            found: builtins.list[Search] = []
            while len(found) < limit:
                query = select(Search).order_by(Search.id.desc()).limit(PAGE)
                if project is not None:
                    query = query.where(Search.project_id == project)
                if state is not None:
                    query = query.where(Search.state == state)
                if after is not None:
                    query = query.where(Search.id < after)
                page = builtins.list(session.scalars(query))
                things = [resources.search(session, search) for search in page]
                seen = self._guard.visible(session, actor, Action.JOB_READ, things)
                found += [search for search, visible in zip(page, seen, strict=True) if visible]
                if len(page) < PAGE:
                    break
                after = page[-1].id
            return search_views(session, found[:limit])

    def detail(self, actor: Actor, search_id: str) -> SearchDetail:
        """Show a search with its trials; raises Denied, JobNotFound."""
        with self._guard.transaction() as session:
            search = self._authorized(session, actor, Action.JOB_READ, search_id)
            if search is not None:
                return search_detail(session, search)
        raise _no_search(search_id)

    def view(self, search_id: str) -> SearchView:
        """Show a search to whom the request in hand has just been authorised to act on it."""
        with self._database.read() as session:
            return search_views(session, [session.get_one(Search, search_id)])[0]

    def _authorized(self, session: Session, actor: Actor, action: Action, search_id: str) -> Search | None:
        """Return the search, locked, once the action on it is authorised; None if there is none."""
        search = lock_search(session, search_id)
        missing = resources.missing("search", search_id)
        resource = missing if search is None else resources.search(session, search)
        self._guard.authorize(session, actor, action, resource)
        return search

    def _cancel(self, session: Session, actor: Actor, search: Search) -> None:
        reason = f"search {search.id} cancelled by {actor.id}"
        trials = trials_of(session, [search])[search.id]
        # All at once and by number: a trial that ends locks its dataset, after which no job may be locked.
        for trial in trials:
            lock_job(session, trial.job.id)
        best = best_of(trials, search.spec["search"]["objective"])
        for trial in trials:
            if not trial.ended:
                transition(session, self._audit, trial.job, JobState.CANCELLED, reason, actor=actor.id)
                trial.job.cancel_requested_by = actor.id
                log_line(session, trial.job, reason)
        end_search(
            session,
            self._audit,
            search,
            SearchState.CANCELLED,
            f"cancelled by {actor.id}",
            best=None if best is None else best.row.number,
            actor=actor.id,
        )


def _no_search(search_id: str) -> JobNotFound:
    return JobNotFound(f"there is no search {search_id!r}: `secure-train search list` shows what there is")
