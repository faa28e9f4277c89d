"""How a job's process gets in: its capability checked against the job as it is now, authorised, fenced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from secure_train.db import new_id
from secure_train.db.tables import Dataset, Job, JobTicket
from secure_train.db.trail import Trail
from secure_train.jobs.errors import StaleWorker, TicketRefused
from secure_train.jobs.journal import job_event
from secure_train.jobs.locks import lock_job
from secure_train.jobs.recovery import fail
from secure_train.jobs.states import ACTIVE
from secure_train.jobs.tickets import claim_ticket, find_ticket
from secure_train.policy import (
    Action,
    Actor,
    CapabilityClaims,
    CapabilityIssuer,
    Denied,
    Guard,
    InvalidCapability,
    Resource,
    actors,
    resources,
)
from secure_train.wire.worker import Capability

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One authorised request of a job's process: its transaction, and the job's locked row."""

    session: Session
    job: Job
    actor: Actor


class WorkerGate:
    """Opens the transactions of requests that are made under a capability."""

    def __init__(self, guard: Guard, audit: Trail, issuer: CapabilityIssuer) -> None:
        self._guard = guard
        self._audit = audit
        self._issuer = issuer

    @contextmanager
    def read(self, token: str) -> Iterator[Call]:
        """Look at the job as it is now, before the transaction of a request that needs long preparation.

        Nothing is authorised by this. Raises InvalidCapability.
        """
        claims = self._issuer.verify(token)
        with self._guard.database.read() as session:
            actor = actors.job(session, claims)
            yield Call(session, session.get_one(Job, claims.job_id), actor)

    @contextmanager
    def call(
        self,
        token: str,
        action: Action,
        generation: int | None = None,
        on: Callable[[Session, Job], Resource] = resources.job,
    ) -> Iterator[Call]:
        """Open the transaction of one request, decided by policy now.

        Raises:
            InvalidCapability: forged, expired, or of a job or an attempt that may not act any more.
            Denied: policy. The job has failed then: what it may not do today it would be denied again and
                again.
            StaleWorker: another worker group has replaced that of ``generation``.
        """
        claims = self._issuer.verify(token)
        with self._failing_if_denied(claims.job_id), self._guard.transaction() as session:
            job = lock_job(session, claims.job_id)
            actor = actors.job(session, claims)
            if job is None:
                raise InvalidCapability(f"there is no job {claims.job_id}")
            self._guard.authorize(session, actor, action, on(session, job))
            if generation is not None and generation != job.generation:
                raise StaleWorker(
                    f"worker group {generation} of {job.id} is over: group {job.generation} has replaced it"
                )
            yield Call(session, job, actor)

    @contextmanager
    def admission(self, secret: str) -> Iterator[tuple[Session, JobTicket, Job]]:
        """Open the transaction in which a ticket is claimed; raises TicketRefused."""
        with self._guard.database.read() as session:
            known = find_ticket(session, secret)
            job_id = None if known is None else known.job_id
        with self._failing_if_denied(job_id), self._guard.transaction() as session:
            yield session, *claim_ticket(session, secret)

    @contextmanager
    def _failing_if_denied(self, job_id: str | None) -> Iterator[None]:
        """End a job whose own request policy has denied, in a transaction after that of the denial."""
        try:
            yield
        except Denied as denied:
            decision = denied.decision
            reason = f"policy: {decision.action} was denied: {decision.reason} (decision {decision.id})"
            try:
                with self._guard.database.write() as session:
                    job = None if job_id is None else lock_job(session, job_id)
                    if job is not None and job.state in ACTIVE:
                        fail(session, self._audit, job, reason)
            except Exception:
                # The denial stands whatever keeps the job from being ended; its next request is denied too.
                logger.exception("%s cannot be ended after a denial", job_id)
            raise

    def admit(self, session: Session, job: Job) -> Capability:
        """Issue the first capability of an attempt, once policy lets the job train. The job is locked.

        Raises InvalidCapability, Denied.
        """
        token, claims = self._issuer.issue(job)
        actor = actors.job(session, claims)
        self._guard.authorize(session, actor, Action.MODEL_TRAIN, resources.job(session, job))
        return self._granted(session, job, token, claims)

    def record_refusal(self, secret: str, refused: TicketRefused) -> None:
        """Record a refused ticket. Not one that never was: anybody could fill the trail with those."""
        with self._guard.database.write() as session:
            ticket = find_ticket(session, secret)
            job = None if ticket is None else session.get(Job, ticket.job_id)
            if ticket is not None and job is not None:
                data = {"attempt": ticket.attempt, "reason": str(refused)}
                event = job_event("ticket.refused", job, new_id("refusal"), data, f"job:{job.id}")
                self._audit.append(session, event)

    def renew(self, call: Call) -> Capability:
        """Issue a fresh capability for the same attempt."""
        return self._granted(call.session, call.job, *self._issuer.issue(call.job))

    def _granted(self, session: Session, job: Job, token: str, claims: CapabilityClaims) -> Capability:
        data = {"attempt": claims.attempt, "expires_at": claims.expires_at.isoformat()}
        self._audit.append(session, job_event("capability.issued", job, claims.id, data, f"job:{job.id}"))
        return Capability(token=token, job_id=job.id, attempt=claims.attempt, expires_at=claims.expires_at)


def on_dataset(session: Session, job: Job) -> Resource:
    """The dataset that the job trains on."""
    return resources.dataset(session, session.get_one(Dataset, job.dataset_id))


def on_checkpoints(_session: Session, job: Job) -> Resource:
    """The job's checkpoints."""
    return resources.checkpoint(job)
