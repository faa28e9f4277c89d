"""Who acts. Attributes come from rows of the database, never from a request or a token."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from secure_train.db.tables import Job, Principal
from secure_train.policy.capability import CapabilityClaims
from secure_train.policy.entities import Entity, job_entity, principal_entity
from secure_train.policy.errors import InvalidCapability
from secure_train.policy.resources import member_of

# States in which a job's processes may act: launched and not ended.
_ACTING = frozenset({"starting", "running", "recovering"})


@dataclass(frozen=True)
class Actor:
    """Who asks: `id` is "user:alice", "service:ci" or "job:job_…".

    `related` are further entities that policies follow its attributes to.
    """

    id: str
    entity: Entity
    related: tuple[Entity, ...] = ()


def principal(session: Session, row: Principal) -> Actor:
    """Return a person or a service, with its projects."""
    return Actor(row.id, principal_entity(row, member_of(session, row.id)))


def job(session: Session, claims: CapabilityClaims) -> Actor:
    """Return the job that a verified capability speaks for, as its row stands now, and who submitted it.

    Raises:
        InvalidCapability: the job is unknown, not running, being cancelled, launched again since, or not the
            one that the capability was issued for.
    """
    row = session.get(Job, claims.job_id, populate_existing=True)
    if row is None:
        raise InvalidCapability(f"there is no job {claims.job_id}")
    if row.state not in _ACTING:
        raise InvalidCapability(f"the job {row.id} is {row.state}: its processes may not act any more")
    if row.cancel_requested_by is not None:
        raise InvalidCapability(f"the job {row.id} is being cancelled")
    if claims.attempt != row.attempt:
        raise InvalidCapability(
            f"this capability is of attempt {claims.attempt} of {row.id}; attempt {row.attempt} replaced it"
        )
    if (claims.dataset_id, claims.dataset_version) != (row.dataset_id, row.dataset_version):
        raise InvalidCapability(f"this capability is for another dataset than that of {row.id}")
    submitter = principal(session, session.get_one(Principal, row.submitted_by, populate_existing=True))
    return Actor(f"job:{row.id}", job_entity(row, claims.actions), (submitter.entity,))
