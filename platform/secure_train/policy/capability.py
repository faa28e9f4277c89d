"""Capabilities: short-lived signed tokens (JWT, RFC 7519) by which the processes of one attempt of a job act.

A capability proves only which job and attempt speaks, and bounds what it may ask. Whether that is allowed
is decided at each request, from the rows as they are then: a cancelled job's capability is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_train.db import new_id, now
from secure_train.db.tables import Job
from secure_train.policy.actions import JOB_ACTIONS, Action
from secure_train.policy.errors import InvalidCapability

ISSUER = "secure-train"
AUDIENCE = "secure-train/control-plane"
ALGORITHM = "EdDSA"
LIFETIME = timedelta(minutes=15)

_CLAIMS = ["iss", "aud", "sub", "job", "attempt", "dataset", "actions", "epsilon", "iat", "nbf", "exp", "jti"]


@dataclass(frozen=True)
class CapabilityClaims:
    """What a verified capability says.

    Attributes:
        epsilon: what the job may spend in all, as it was submitted.
        actions: what it may ask for.
        id: unique to this capability ("jti").
    """

    id: str
    job_id: str
    attempt: int
    dataset_id: str
    dataset_version: int
    actions: frozenset[Action]
    epsilon: float
    issued_at: datetime
    expires_at: datetime


class CapabilityIssuer:
    """Signs capabilities and verifies those that it signed."""

    def __init__(self, signing_key: Ed25519PrivateKey, lifetime: timedelta = LIFETIME) -> None:
        self._key = signing_key
        self._public_key = signing_key.public_key()
        self._lifetime = lifetime

    def issue(self, job: Job) -> tuple[str, CapabilityClaims]:
        """Sign a capability for the job's current attempt. Returns its text and what it says."""
        issued = now().replace(microsecond=0)
        claims = CapabilityClaims(
            id=new_id("cap"),
            job_id=job.id,
            attempt=job.attempt,
            dataset_id=job.dataset_id,
            dataset_version=job.dataset_version,
            actions=JOB_ACTIONS,
            epsilon=job.epsilon,
            issued_at=issued,
            expires_at=issued + self._lifetime,
        )
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"job:{claims.job_id}",
            "job": claims.job_id,
            "attempt": claims.attempt,
            "dataset": f"{claims.dataset_id}@{claims.dataset_version}",
            "actions": sorted(claims.actions),
            "epsilon": claims.epsilon,
            "iat": claims.issued_at,
            "nbf": claims.issued_at,
            "exp": claims.expires_at,
            "jti": claims.id,
        }
        return jwt.encode(payload, self._key, algorithm=ALGORITHM), claims

    def verify(self, token: str) -> CapabilityClaims:
        """Return what the token says, if this issuer signed it and it is valid now.

        The algorithm is pinned, whatever the token's header says (RFC 8725 §3.1).

        Raises:
            InvalidCapability: wrong signature, algorithm, issuer or audience, expired, not yet valid, or a
                claim is absent or malformed.
        """
        try:
            payload = jwt.decode(
                token,
                self._public_key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": _CLAIMS, "strict_aud": True},
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidCapability("the capability has expired; renew it at half of its life") from error
        except jwt.InvalidTokenError as error:
            raise InvalidCapability(f"not a capability of this control plane: {error}") from error
        try:
            return _claims(payload)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidCapability("a claim of the capability is malformed") from error


def _claims(payload: dict[str, Any]) -> CapabilityClaims:
    dataset, _, version = payload["dataset"].rpartition("@")
    if payload["sub"] != f"job:{payload['job']}" or type(payload["attempt"]) is not int:
        raise ValueError("the claims contradict each other")
    return CapabilityClaims(
        id=payload["jti"],
        job_id=payload["job"],
        attempt=payload["attempt"],
        dataset_id=dataset,
        dataset_version=int(version),
        actions=frozenset(Action(name) for name in payload["actions"]),
        epsilon=float(payload["epsilon"]),
        issued_at=datetime.fromtimestamp(payload["iat"], UTC),
        expires_at=datetime.fromtimestamp(payload["exp"], UTC),
    )
