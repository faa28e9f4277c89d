"""From a search that is sent to its rows: checked, drawn, priced and sealed before any transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from secure_train import ledger
from secure_train.blocks import BlockStore
from secure_train.db import new_id
from secure_train.db.tables import Search, SearchTrial
from secure_train.db.trail import Trail
from secure_train.jobs.errors import JobConflict
from secure_train.jobs.journal import log_line
from secure_train.jobs.search.pricing import Planned
from secure_train.jobs.search.sampling import draw_all
from secure_train.jobs.search.states import SearchState, search_event
from secure_train.jobs.submission import (
    Draft,
    Offer,
    Submission,
    add_job,
    make_draft,
    plain_digest,
    read_code,
)
from secure_train.policy import Actor
from secure_train.spec import Assignment, SearchJob, SpecErrors, digest, search_from_json, trial_of
from secure_train.spec.workdir import Package
from secure_train.vault import SealedFileVault
from secure_train.wire.searches import SubmitSearch


@dataclass(frozen=True)
class SearchSubmission:
    """A valid submission of a search, its trials drawn; those of `tpe` are the template until their turn."""

    spec: SearchJob
    planned: tuple[Planned, ...]
    code: Package | None
    idempotency_key: str

    @property
    def spec_digest(self) -> str:
        """SHA-256 of the resolved specification, in hexadecimal."""
        return plain_digest(digest(self.spec))

    @property
    def code_digest(self) -> str | None:
        """Digest of the working directory, in hexadecimal."""
        return None if self.code is None else plain_digest(self.code.digest)


@dataclass(frozen=True)
class SearchDraft:
    """A priced submission with the ids that it and its jobs will have."""

    actor: Actor
    submission: SearchSubmission
    search_id: str
    offers: tuple[Offer, ...]
    jobs: tuple[Draft, ...]


def read_search(message: SubmitSearch) -> SearchSubmission:
    """Validate what was sent and draw its trials; raises SpecErrors."""
    spec = search_from_json(message.spec)
    code = read_code(spec.template.model, message.workdir)
    return SearchSubmission(spec, plan_trials(spec), code, message.idempotency_key)


def plan_trials(spec: SearchJob) -> tuple[Planned, ...]:
    """Draw all trials, or leave them open; raises SpecErrors if one of them is no valid job."""
    if spec.search.sampler == "tpe":
        template = trial_of(spec, {})
        return tuple(Planned(number, None, template) for number in range(1, spec.trials + 1))
    planned = []
    for number, assignment in enumerate(draw_all(spec), start=1):
        try:
            planned.append(Planned(number, assignment, trial_of(spec, assignment)))
        except SpecErrors as errors:
            raise SpecErrors(errors.errors, f"search, trial {number}: {dict(assignment)}") from errors
    return tuple(planned)


def make_search_draft(
    vault: SealedFileVault,
    blocks: BlockStore,
    actor: Actor,
    submission: SearchSubmission,
    offers: Sequence[Offer],
) -> SearchDraft:
    """Give a search and its jobs their ids and data keys, and seal the code for each job."""
    search_id = new_id("srch")
    jobs = []
    for trial, offer in zip(submission.planned, offers, strict=True):
        job = Submission(trial.spec, submission.code, f"{search_id}:{trial.number}")
        jobs.append(make_draft(vault, blocks, actor, job, offer))
    return SearchDraft(actor, submission, search_id, tuple(offers), tuple(jobs))


def add_search(
    session: Session, audit: Trail, draft: SearchDraft, state: SearchState, reason: str, key: str
) -> Search:
    """Add a search's row, with its audit event."""
    submission, spec = draft.submission, draft.submission.spec
    search = Search(
        id=draft.search_id,
        name=spec.metadata.name,
        project_id=spec.metadata.project,
        purpose=spec.metadata.purpose,
        submitted_by=draft.actor.id,
        idempotency_key=key,
        spec=spec.model_dump(mode="json", by_alias=True),
        spec_digest=submission.spec_digest,
        code_digest=submission.code_digest,
        dataset_id=draft.offers[0].dataset_id,
        dataset_version=draft.offers[0].version,
        trials=spec.trials,
        concurrency=spec.search.concurrency,
        state=state.value,
        reason=reason,
    )
    session.add(search)
    session.flush()
    data = {
        "name": search.name,
        "purpose": search.purpose,
        "dataset": f"{search.dataset_id}@{search.dataset_version}",
        "sampler": spec.search.sampler,
        "trials": search.trials,
        "spec": search.spec_digest,
        "code": search.code_digest,
        "reason": reason,
    }
    kind = "search.denied" if state is SearchState.DENIED else "search.submitted"
    audit.append(session, search_event(kind, search, search.spec_digest, data, draft.actor.id))
    return search


def add_trials(session: Session, audit: Trail, draft: SearchDraft, search: Search) -> None:
    """Add every trial's job and hold its budget: all of them or, with the transaction, none.

    Raises:
        BudgetExceeded: there is not enough room for all.
    """
    rows = zip(draft.submission.planned, draft.jobs, draft.offers, strict=True)
    for trial, job_draft, offer in rows:
        job = add_job(session, audit, job_draft, job_draft.submission.idempotency_key)
        ledger.reserve(session, audit, job, offer.cost.events)
        job.reason = f"trial {trial.number} of {search.trials} of {search.id} waits for its turn"
        row = SearchTrial(search_id=search.id, number=trial.number, job_id=job.id, parameters=None)
        session.add(row)
        session.flush()
        if trial.assignment is not None:
            note_values(session, audit, search, row, trial.assignment, job.spec_digest)
        log_line(session, job, f"submitted by {draft.actor.id}; {job.epsilon:g} of ε reserved")


def note_values(
    session: Session,
    audit: Trail,
    search: Search,
    row: SearchTrial,
    values: Assignment,
    spec_digest: str,
) -> None:
    """Write down what a trial sets, with the digest of the job that comes of it."""
    row.parameters = dict(values)
    session.flush()
    data = {"trial": row.number, "job": row.job_id, "parameters": row.parameters, "spec": spec_digest}
    audit.append(session, search_event("search.trial", search, row.number, data, "system"))


def require_same(search: Search, submission: SearchSubmission) -> None:
    """Refuse to take another search for a repetition; raises JobConflict."""
    if (search.spec_digest, search.code_digest) != (submission.spec_digest, submission.code_digest):
        raise JobConflict(
            f"the idempotency key {submission.idempotency_key!r} was used for another search, {search.id}: "
            "use a new key"
        )
