"""Jobs as people use them: plan, submit, watch, cancel, resume."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.blocks import BlockStore
from secure_train.db import Database
from secure_train.db.tables import Job
from secure_train.db.trail import Trail
from secure_train.jobs.affordable import claim_of, shortage_of, with_remedy
from secure_train.jobs.denials import keep_denied
from secure_train.jobs.errors import JobNotFound
from secure_train.jobs.journal import log_line
from secure_train.jobs.locks import lock_job, lock_principal
from secure_train.jobs.states import JobState
from secure_train.jobs.submission import (
    Offer,
    add_job,
    context_of,
    dataset_of,
    make_draft,
    price,
    read_submission,
    require_same,
    unpriced,
)
from secure_train.jobs.transitions import transition
from secure_train.jobs.views import job_detail, job_view, job_views, log_lines, progress_views, release_views
from secure_train.ledger import BudgetExceeded
from secure_train.ledger.exact import rounded_up
from secure_train.policy import Action, Actor, Denied, Guard, resources
from secure_train.registry import NotFound
from secure_train.registry.datasets import DatasetService
from secure_train.spec import TrainingJob, job_from_json
from secure_train.vault import SealedFileVault
from secure_train.wire.jobs import (
    JobDetail,
    JobPlan,
    JobView,
    LogLine,
    PlanJob,
    ProgressView,
    ReleaseView,
    SubmitJob,
)

PAGE = 200


@dataclass(frozen=True)
class JobUpdate:
    """What is new about a job since somebody last looked; all releases, since they are few."""

    job: JobView
    logs: list[LogLine]
    progress: list[ProgressView]
    releases: list[ReleaseView]


class JobService:
    """Every request makes one recorded decision, in the transaction of what it does."""

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

    def plan(self, actor: Actor, message: PlanJob) -> JobPlan:
        """Say what a job would cost and whether it would be allowed; nothing is reserved.

        Raises:
            SpecErrors: the specification is wrong, or does not fit the dataset.
            Denied: the actor may neither submit the job nor read the dataset.
            NotFound: there is no such dataset, and the actor may know that.
        """
        spec = job_from_json(message.spec)
        offer = self._offer(actor, spec)
        with self._guard.transaction() as session:
            resource, dataset = dataset_of(session, spec, offer)
            decision = self._guard.consider(session, actor, Action.JOB_SUBMIT, resource, context_of(spec))
            hidden = (
                dataset is None or not self._guard.visible(session, actor, Action.DATASET_READ, [resource])[0]
            )
            if not decision.allowed and hidden:
                raise Denied(decision)
            room = None if dataset is None else ledger.room(session, dataset, spec.metadata.project)
        if offer is None or dataset is None or room is None:
            raise _no_dataset(spec)
        cost = offer.cost
        claim = claim_of(spec, cost)
        whole = room.limits[-1]
        return JobPlan(
            spec=spec.model_dump(mode="json", by_alias=True),
            dataset=dataset.id,
            dataset_version=offer.version,
            training_rows=offer.training_rows,
            epsilon=spec.privacy.epsilon,
            delta=cost.delta,
            training_epsilon=cost.training_epsilon,
            evaluation_epsilon=cost.evaluation_epsilon,
            noise_multiplier=cost.noise_multiplier,
            sampling_rate=cost.sampling_rate,
            steps=cost.steps,
            allowed=decision.allowed,
            decision_id=decision.id,
            reason=decision.reason,
            policies=list(decision.policies),
            composition=dataset.composition,
            budget_epsilon=whole.epsilon,
            budget_delta=whole.delta,
            budget_used_epsilon=rounded_up(whole.used().epsilon),
            budget_with_job_epsilon=rounded_up(whole.used(claim).epsilon),
            budget_available_epsilon=room.left_epsilon(),
            fits_budget=room.refusing(claim) is None,
            shortage=shortage_of(room, claim),
            fitting_epsilon=ledger.largest_epsilon(room, cost.shape),
        )

    def submit(self, actor: Actor, message: SubmitJob) -> str:
        """Authorise a job, reserve its budget and queue it, all in one transaction. Returns its id.

        The same principal repeating the same submission under the same idempotency key gets the same job. A
        submission that policy or the budget denies is kept as a job in state ``denied``.

        Raises:
            SpecErrors: the specification is wrong, or does not fit the dataset.
            Denied: policy.
            BudgetExceeded: the dataset's budget does not hold what the job asks for.
            JobConflict: the idempotency key was used for another job.
            NotFound: there is no such dataset, and the actor may know that.
        """
        submission = read_submission(message)
        spec = submission.spec
        offer = self._offer(actor, spec)
        draft = make_draft(self._vault, self._blocks, actor, submission, offer)
        try:
            with self._guard.transaction() as session:
                lock_principal(session, actor.id)
                known = _find(session, actor, submission.idempotency_key)
                if known is not None:
                    self._guard.authorize(session, actor, Action.JOB_READ, resources.job(session, known))
                    require_same(known, submission)
                    return known.id
                resource, _ = dataset_of(session, spec, offer)
                self._guard.authorize(session, actor, Action.JOB_SUBMIT, resource, context_of(spec))
                if draft.offer is not None:
                    job = add_job(session, self._audit, draft, submission.idempotency_key)
                    ledger.reserve(session, self._audit, job, draft.offer.cost.events)
                    transition(
                        session, self._audit, job, JobState.QUEUED, "waiting for its turn", actor=actor.id
                    )
                    log_line(session, job, f"submitted by {actor.id}; {job.epsilon:g} of ε reserved")
                    return job.id
        except Denied as denied:
            reason = f"policy: {denied.decision.reason} (decision {denied.decision.id})"
            keep_denied(self._database, self._audit, draft, reason)
            raise
        except BudgetExceeded as short:
            told = short if draft.offer is None else with_remedy(short, draft.offer.cost)
            keep_denied(self._database, self._audit, draft, f"budget: {told}")
            raise told from short
        raise _no_dataset(spec)

    def cancel(self, actor: Actor, job_id: str) -> JobView:
        """End a job in whatever state it is. At once nothing more is charged; its processes end soon after.

        Raises:
            Denied, JobNotFound.
            IllegalTransition: it has ended in another way.
        """
        with self._guard.transaction() as session:
            job = self._authorized(session, actor, Action.JOB_CANCEL, job_id)
            if job is not None:
                if job.state != JobState.CANCELLED:
                    reason = f"cancelled by {actor.id}"
                    transition(session, self._audit, job, JobState.CANCELLED, reason, actor=actor.id)
                    job.cancel_requested_by = actor.id
                    log_line(session, job, reason)
                return job_view(session, job)
        raise _no_job(job_id)

    def resume(self, actor: Actor, job_id: str) -> JobView:
        """Queue a failed or cancelled job again, from its newest checkpoint, with the budget it had left.

        Raises:
            Denied, JobNotFound.
            IllegalTransition: it has neither failed nor been cancelled.
            BudgetExceeded: others have taken what it would need.
        """
        with self._guard.transaction() as session:
            job = self._authorized(session, actor, Action.JOB_RESUME, job_id)
            if job is not None:
                reason = f"resumed by {actor.id}"
                transition(session, self._audit, job, JobState.QUEUED, reason, actor=actor.id)
                log_line(session, job, reason)
                return job_view(session, job)
        raise _no_job(job_id)

    def list(
        self, actor: Actor, *, project: str | None, state: str | None, limit: int, after: str | None
    ) -> list[JobView]:
        """List the jobs that the actor may read, newest first; ``after`` is the last id of the last page."""
        with self._guard.transaction() as session:
            self._guard.authorize(session, actor, Action.JOB_READ, resources.catalog("jobs"))
            found: builtins.list[Job] = []
            while len(found) < limit:
                query = select(Job).order_by(Job.id.desc()).limit(PAGE)
                if project is not None:
                    query = query.where(Job.project_id == project)
                if state is not None:
                    query = query.where(Job.state == state)
                if after is not None:
                    query = query.where(Job.id < after)
                page = list(session.scalars(query))
                things = [resources.job(session, job) for job in page]
                seen = self._guard.visible(session, actor, Action.JOB_READ, things)
                found += [job for job, visible in zip(page, seen, strict=True) if visible]
                if len(page) < PAGE:
                    break
                after = page[-1].id
            return job_views(session, found[:limit])

    def detail(self, actor: Actor, job_id: str) -> JobDetail:
        """Show a job with its whole life; raises Denied, JobNotFound."""
        with self._guard.transaction() as session:
            job = self._authorized(session, actor, Action.JOB_READ, job_id)
            if job is not None:
                return job_detail(session, job)
        raise _no_job(job_id)

    def logs(self, actor: Actor, job_id: str, after: int) -> builtins.list[LogLine]:
        """Show the job's log behind a sequence number; raises Denied, JobNotFound."""
        with self._guard.transaction() as session:
            job = self._authorized(session, actor, Action.JOB_READ, job_id)
            if job is not None:
                return log_lines(session, job, after)
        raise _no_job(job_id)

    def view(self, job_id: str) -> JobView:
        """Show a job to whom the request in hand has just been authorised to act on it."""
        with self._database.read() as session:
            return job_view(session, session.get_one(Job, job_id))

    def peek(
        self, session: Session, actor: Actor, job_id: str, *, log_after: int, progress_after: int
    ) -> JobUpdate | None:
        """Show what is new to somebody who was allowed to follow the job; None if that has changed.

        Unrecorded, and evaluated anew each time.
        """
        job = session.get(Job, job_id)
        if job is None:
            return None
        if not self._guard.still_allowed(actor, Action.JOB_READ, resources.job(session, job)):
            return None
        return JobUpdate(
            job=job_view(session, job),
            logs=log_lines(session, job, log_after),
            progress=progress_views(session, job, progress_after),
            releases=release_views(session, job),
        )

    def _authorized(self, session: Session, actor: Actor, action: Action, job_id: str) -> Job | None:
        """Return the job, locked, once the action on it is authorised; None for one that does not exist."""
        job = lock_job(session, job_id)
        resource = resources.missing("job", job_id) if job is None else resources.job(session, job)
        self._guard.authorize(session, actor, action, resource)
        return job

    def _offer(self, actor: Actor, spec: TrainingJob) -> Offer | None:
        """Pin the newest or the named version of the dataset and price the job; None if there is none.

        Pricing takes seconds of work: it is not done for those who may neither submit the job nor know of
        the dataset, and whom the decision that follows denies.
        """
        with self._database.read() as session:
            try:
                dataset, version = self._datasets.resolve(session, spec.metadata.project, spec.data.dataset)
            except NotFound:
                return None
            thing = resources.dataset(session, dataset)
        if self._guard.still_allowed(actor, Action.DATASET_READ, thing) or self._guard.still_allowed(
            actor, Action.JOB_SUBMIT, thing, context_of(spec)
        ):
            with self._database.read() as session:
                # The curves of all jobs so far, cached: the transaction that locks the budget need not wait.
                ledger.room(session, dataset, spec.metadata.project).left_epsilon()
            return price(spec, version)
        return unpriced(version)


def _find(session: Session, actor: Actor, idempotency_key: str) -> Job | None:
    query = select(Job).where(Job.submitted_by == actor.id, Job.idempotency_key == idempotency_key)
    return session.scalar(query)


def _no_dataset(spec: TrainingJob) -> NotFound:
    return NotFound(
        f"there is no dataset {spec.data.dataset!r} in project {spec.metadata.project!r}: "
        "`secure-train data list` shows what there is"
    )


def _no_job(job_id: str) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id!r}: `secure-train jobs list` shows what there is")
