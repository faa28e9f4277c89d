"""Tickets: the secret that a launch hands to its driver, good for one capability."""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from secure_train.db import now
from secure_train.db.tables import Job, JobTicket
from secure_train.jobs.errors import TicketRefused
from secure_train.jobs.locks import lock_job

PREFIX = "stt_"
LIFETIME = timedelta(minutes=10)


def issue_ticket(session: Session, job: Job) -> str:
    """Create a ticket for the job's current attempt and return its text, which is stored nowhere.

    Tickets of an attempt whose launch was not acknowledged stay good until they expire: Ray may have started
    the driver all the same, and takes only one submission for an attempt. Expired ones are removed.
    """
    secret = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    moment = now()
    session.execute(
        delete(JobTicket).where(
            JobTicket.job_id == job.id, JobTicket.redeemed_at.is_(None), JobTicket.expires_at < moment
        )
    )
    session.add(
        JobTicket(sha256=digest(secret), job_id=job.id, attempt=job.attempt, expires_at=moment + LIFETIME)
    )
    session.flush()
    return secret


def digest(secret: str) -> bytes:
    """SHA-256 of a ticket's text: all that is stored of it. 256 random bits need no slower hash."""
    return hashlib.sha256(secret.encode()).digest()


def find_ticket(session: Session, secret: str) -> JobTicket | None:
    """Return the ticket of this text."""
    return session.get(JobTicket, digest(secret))


def claim_ticket(session: Session, secret: str) -> tuple[JobTicket, Job]:
    """Mark a ticket as redeemed, in the caller's transaction. Returns it, and its job, locked.

    Raises:
        TicketRefused: unknown, redeemed before, expired, or of an older attempt.
    """
    found = find_ticket(session, secret)
    job = None if found is None else lock_job(session, found.job_id)
    if found is None or job is None:
        raise TicketRefused("the ticket is unknown")
    session.refresh(found)
    if found.redeemed_at is not None:
        raise TicketRefused("the ticket was redeemed before")
    if found.expires_at <= now():
        raise TicketRefused("the ticket has expired")
    if found.attempt != job.attempt:
        raise TicketRefused(
            f"the ticket belongs to attempt {found.attempt}, and the job is at attempt {job.attempt}"
        )
    found.redeemed_at = now()
    return found, job


def was_launched(session: Session, job: Job) -> bool:
    """Whether a driver of the current attempt has lived: it has redeemed a ticket."""
    query = select(JobTicket.sha256).where(
        JobTicket.job_id == job.id, JobTicket.attempt == job.attempt, JobTicket.redeemed_at.is_not(None)
    )
    return session.scalar(query.limit(1)) is not None
