"""Admitting searches: every trial is authorised, and the budget of all is held, or of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.blocks import BlockStore
from secure_train.db import Database
from secure_train.db.tables import Dataset, Project, Search
from secure_train.db.trail import Trail
from secure_train.jobs.cost import Cost
from secure_train.jobs.locks import lock_principal
from secure_train.jobs.search.draft import (
    SearchDraft,
    SearchSubmission,
    add_search,
    add_trials,
    make_search_draft,
    plan_trials,
    read_search,
    require_same,
)
from secure_train.jobs.search.plan import search_plan
from secure_train.jobs.search.pricing import Planned, claims_of, price_all, shortage_of, with_remedy
from secure_train.jobs.search.states import SearchState
from secure_train.jobs.submission import Offer, context_of, dataset_of, unpriced
from secure_train.ledger import BudgetExceeded
from secure_train.ledger.reservations import WAIT
from secure_train.policy import Action, Actor, Decision, Denied, Guard, resources
from secure_train.registry import NotFound
from secure_train.registry.datasets import DatasetService
from secure_train.spec import SearchJob, search_from_json
from secure_train.vault import SealedFileVault
from secure_train.wire.searches import PlanSearch, SearchPlan, SubmitSearch

Offers = Sequence[Offer] | None
"""What each trial costs on the pinned version of the dataset; None if there is no such dataset."""


class Admission:
    """Plans and submits searches."""

    def __init__(
        self,
        guard: Guard,
        audit: Trail,
        database: Database,
        vault: SealedFileVault,
        blocks: BlockStore,
        datasets: DatasetService,
    ) -> None:
        self._guard = guard
        self._audit = audit
        self._database = database
        self._vault = vault
        self._blocks = blocks
        self._datasets = datasets

    def plan(self, actor: Actor, message: PlanSearch) -> SearchPlan:
        """Say what a search would cost and whether it would be allowed; nothing is reserved.

        Raises:
            SpecErrors: the specification is wrong, or does not fit the dataset.
            Denied: the actor may neither submit the trials nor read the dataset.
            NotFound: there is no such dataset, and the actor may know that.
        """
        spec = search_from_json(message.spec)
        planned = plan_trials(spec)
        offers = self._offers(actor, spec, planned)
        with self._guard.transaction() as session:
            decision, dataset = self._consider(session, actor, planned, offers)
            room = None if dataset is None else ledger.room(session, dataset, spec.metadata.project)
        if offers is None or dataset is None or room is None:
            raise _no_dataset(spec)
        return search_plan(spec, planned, offers, dataset, room, decision)

    def submit(self, actor: Actor, message: SubmitSearch) -> str:
        """Authorise every trial and hold the budget of all, in one transaction. Returns the search's id.

        The same principal repeating the same submission under the same idempotency key gets the same search.
        One that policy or the budget denies is kept in state ``denied``, without trials.

        Raises:
            SpecErrors: the specification is wrong, or does not fit the dataset.
            Denied: policy.
            BudgetExceeded: the dataset's budget does not hold what all trials ask for.
            JobConflict: the idempotency key was used for another search.
            NotFound: there is no such dataset, and the actor may know that.
        """
        submission = read_search(message)
        offers = self._offers(actor, submission.spec, submission.planned)
        if offers is None or not all(isinstance(offer.price, Cost) for offer in offers):
            self._decline(actor, submission, offers)
        draft = make_search_draft(self._vault, self._blocks, actor, submission, offers)
        try:
            with self._guard.transaction() as session:
                lock_principal(session, actor.id)
                known = self._repeated(session, actor, submission)
                if known is not None:
                    return known
                self._authorize(session, actor, submission.planned, offers)
                return self._add(session, draft)
        except Denied as denied:
            self._keep_denied(draft, f"policy: {denied.decision.reason} (decision {denied.decision.id})")
            raise
        except BudgetExceeded as short:
            costs = [offer.cost for offer in offers]
            told = with_remedy(short, claims_of(submission.planned, costs), costs)
            self._keep_denied(draft, f"budget: {told}")
            raise told from short

    def _offers(self, actor: Actor, spec: SearchJob, planned: Sequence[Planned]) -> Offers:
        """Pin the dataset's version and price the trials.

        Pricing takes seconds of work: it is not done for those who may neither submit the trials nor know of
        the dataset, and whom the decision that follows denies.
        """
        with self._database.read() as session:
            try:
                project, name = spec.metadata.project, spec.template.data.dataset
                dataset, version = self._datasets.resolve(session, project, name)
            except NotFound:
                return None
            thing = resources.dataset(session, dataset)
        if self._guard.still_allowed(actor, Action.DATASET_READ, thing) or all(
            self._guard.still_allowed(actor, Action.JOB_SUBMIT, thing, context_of(trial.spec))
            for trial in _decided_on(planned)
        ):
            return price_all(spec, planned, version)
        return [unpriced(version) for _ in planned]

    def _consider(
        self, session: Session, actor: Actor, planned: Sequence[Planned], offers: Offers
    ) -> tuple[Decision, Dataset | None]:
        """Decide on every different trial; return the first denial or the last decision. Raises Denied."""
        resource, dataset = dataset_of(session, planned[0].spec, offers[0] if offers else None)
        for trial in _decided_on(planned):
            context = context_of(trial.spec)
            decision = self._guard.consider(session, actor, Action.JOB_SUBMIT, resource, context)
            if not decision.allowed:
                break
        hidden = (
            dataset is None or not self._guard.visible(session, actor, Action.DATASET_READ, [resource])[0]
        )
        if not decision.allowed and hidden:
            raise Denied(decision)
        return decision, dataset

    def _authorize(self, session: Session, actor: Actor, planned: Sequence[Planned], offers: Offers) -> None:
        """Decide on every trial, as on any job; raises Denied at the first that is denied."""
        for number, trial in enumerate(planned):
            resource, _ = dataset_of(session, trial.spec, None if offers is None else offers[number])
            self._guard.authorize(session, actor, Action.JOB_SUBMIT, resource, context_of(trial.spec))

    def _decline(self, actor: Actor, submission: SearchSubmission, offers: Offers) -> NoReturn:
        """Answer a submission that cannot become rows: with the decision if it is a denial, else with why."""
        with self._guard.transaction() as session:
            self._authorize(session, actor, submission.planned, offers)
        for offer in offers or ():
            _ = offer.cost
        raise _no_dataset(submission.spec)

    def _repeated(self, session: Session, actor: Actor, submission: SearchSubmission) -> str | None:
        """Return the search that was submitted under this key before, to whom may read it."""
        query = select(Search).where(
            Search.submitted_by == actor.id, Search.idempotency_key == submission.idempotency_key
        )
        known = session.scalar(query)
        if known is None:
            return None
        self._guard.authorize(session, actor, Action.JOB_READ, resources.search(session, known))
        require_same(known, submission)
        return known.id

    def _add(self, session: Session, draft: SearchDraft) -> str:
        spec, key = draft.submission.spec, draft.submission.idempotency_key
        dataset = session.get_one(Dataset, draft.offers[0].dataset_id)
        room = ledger.room(session, dataset, spec.metadata.project)
        reason = f"{spec.trials} trials, {spec.search.concurrency} at once"
        search = add_search(session, self._audit, draft, SearchState.RUNNING, reason, key)
        try:
            add_trials(session, self._audit, draft, search)
        except BudgetExceeded as short:
            claims = claims_of(draft.submission.planned, [offer.cost for offer in draft.offers])
            # None only if somebody else has reserved since: then it is told what that left.
            told = shortage_of(room, claims)
            raise BudgetExceeded(told, WAIT, room) if told else short from short
        return search.id

    def _keep_denied(self, draft: SearchDraft, reason: str) -> None:
        """Keep a denied submission in sight; the guard has recorded the decision itself."""
        with self._database.write() as session:
            if session.get(Project, draft.submission.spec.metadata.project) is not None:
                # Its own id is its key: it may be repeated under its real one when the reason is gone.
                add_search(session, self._audit, draft, SearchState.DENIED, reason, draft.search_id)


def _decided_on(planned: Sequence[Planned]) -> list[Planned]:
    """Leave out the trials on which the same would be decided again."""
    return list({tuple(context_of(trial.spec).items()): trial for trial in planned}.values())


def _no_dataset(spec: SearchJob) -> NotFound:
    return NotFound(
        f"there is no dataset {spec.template.data.dataset!r} in project {spec.metadata.project!r}: "
        "`secure-train data list` shows what there is"
    )
