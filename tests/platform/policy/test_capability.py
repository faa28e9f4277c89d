from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from secure_train.db import Database
from secure_train.db.tables import Job
from secure_train.policy import JOB_ACTIONS, CapabilityIssuer, InvalidCapability, actors

KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def issuer() -> CapabilityIssuer:
    return CapabilityIssuer(KEY)


@pytest.fixture
def job() -> Job:
    """A job in its second attempt, in no database."""
    return Job(id="job_1", attempt=2, dataset_id="ds_1", dataset_version=1, epsilon=3.0)


@pytest.fixture
def running(database: Database, rows: Any) -> Job:
    """A running job in its second attempt, in the database."""
    with database.write() as session:
        rows.project(session)
        owner = rows.principal(session)
        return rows.job(session, rows.dataset(session, owner), owner, state="running", attempt=2)


def _payload(token: str) -> dict[str, Any]:
    payload: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return payload


def test_a_capability_says_what_the_job_is(issuer: CapabilityIssuer, job: Job) -> None:
    token, issued = issuer.issue(job)
    claims = issuer.verify(token)
    assert claims == issued
    assert (claims.job_id, claims.attempt) == (job.id, 2)
    assert (claims.dataset_id, claims.dataset_version) == (job.dataset_id, 1)
    assert claims.actions == JOB_ACTIONS
    assert claims.expires_at - claims.issued_at == timedelta(minutes=15)
    assert _payload(token)["sub"] == f"job:{job.id}"


def test_two_capabilities_are_told_apart(issuer: CapabilityIssuer, job: Job) -> None:
    assert issuer.issue(job)[1].id != issuer.issue(job)[1].id


def test_it_speaks_for_its_job_while_that_runs(
    database: Database, issuer: CapabilityIssuer, running: Job
) -> None:
    with database.read() as session:
        actor = actors.job(session, issuer.verify(issuer.issue(running)[0]))
    assert actor.id == f"job:{running.id}"
    assert actor.entity.shown["granted"] == sorted(JOB_ACTIONS)


def test_an_expired_capability_is_refused(job: Job) -> None:
    issuer = CapabilityIssuer(KEY, lifetime=timedelta(seconds=-1))
    with pytest.raises(InvalidCapability, match="expired"):
        issuer.verify(issuer.issue(job)[0])


def test_a_capability_of_another_key_is_refused(issuer: CapabilityIssuer, job: Job) -> None:
    with pytest.raises(InvalidCapability, match=r"[Ss]ignature"):
        issuer.verify(CapabilityIssuer(Ed25519PrivateKey.generate()).issue(job)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "somebody-else"},
        {"aud": "another-service"},
        {"aud": ["secure-train/control-plane", "another-service"]},
        {"sub": "job:job_other"},
        {"nbf": 4102444800},
        {"iat": 4102444800},
        {"attempt": "2"},
        {"attempt": True},
        {"dataset": "ds_1"},
        {"dataset": 7},
        {"actions": ["everything"]},
        {"actions": 3},
        {"epsilon": "much"},
    ],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(
    issuer: CapabilityIssuer, job: Job, change: dict[str, Any]
) -> None:
    payload = _payload(issuer.issue(job)[0]) | change
    with pytest.raises(InvalidCapability):
        issuer.verify(jwt.encode(payload, KEY, algorithm="EdDSA"))


@pytest.mark.parametrize(
    "claim",
    ["iss", "aud", "sub", "job", "attempt", "dataset", "actions", "epsilon", "iat", "nbf", "exp", "jti"],
)
def test_a_token_without_a_claim_is_refused(issuer: CapabilityIssuer, job: Job, claim: str) -> None:
    payload = _payload(issuer.issue(job)[0])
    del payload[claim]
    with pytest.raises(InvalidCapability):
        issuer.verify(jwt.encode(payload, KEY, algorithm="EdDSA"))


def test_algorithm_none_is_refused(issuer: CapabilityIssuer, job: Job) -> None:
    payload = _payload(issuer.issue(job)[0])
    with pytest.raises(InvalidCapability):
        issuer.verify(jwt.encode(payload, "", algorithm="none"))


def test_an_hmac_with_the_public_key_is_refused(issuer: CapabilityIssuer, job: Job) -> None:
    payload = _payload(issuer.issue(job)[0])
    public = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    with pytest.raises(InvalidCapability):
        issuer.verify(jwt.encode(payload, public, algorithm="HS256"))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_an_edited_capability_is_refused(issuer: CapabilityIssuer, job: Job, part: int) -> None:
    parts = issuer.issue(job)[0].split(".")
    if part == 1:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        parts[1] = (
            base64.urlsafe_b64encode(json.dumps(payload | {"attempt": 3}).encode()).decode().rstrip("=")
        )
    else:
        parts[part] = parts[part][:-2] + ("AA" if parts[part][-2:] != "AA" else "BB")
    with pytest.raises(InvalidCapability):
        issuer.verify(".".join(parts))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "st_" + "A" * 43, "é.é.é"])
def test_what_is_no_token_is_refused(issuer: CapabilityIssuer, text: str) -> None:
    with pytest.raises(InvalidCapability):
        issuer.verify(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attempt": 3}, "attempt 3 replaced it"),
        ({"state": "succeeded"}, "succeeded"),
        ({"state": "failed"}, "failed"),
        ({"state": "cancelled"}, "cancelled"),
        ({"state": "queued"}, "queued"),
        ({"cancel_requested_by": "user:alice"}, "being cancelled"),
    ],
)
def test_it_is_worth_nothing_once_the_row_says_so(
    database: Database, issuer: CapabilityIssuer, running: Job, change: dict[str, Any], message: str
) -> None:
    token, _ = issuer.issue(running)
    with database.write() as session:
        row = session.get_one(Job, running.id)
        for name, value in change.items():
            setattr(row, name, value)
    with database.read() as session, pytest.raises(InvalidCapability, match=message):
        actors.job(session, issuer.verify(token))


def test_a_capability_of_an_unknown_job_is_refused(
    database: Database, issuer: CapabilityIssuer, job: Job
) -> None:
    payload = _payload(issuer.issue(job)[0]) | {"job": "job_404", "sub": "job:job_404"}
    claims = issuer.verify(jwt.encode(payload, KEY, algorithm="EdDSA"))
    with database.read() as session, pytest.raises(InvalidCapability, match="no job"):
        actors.job(session, claims)


def test_a_capability_for_another_dataset_is_refused(
    database: Database, issuer: CapabilityIssuer, running: Job
) -> None:
    payload = _payload(issuer.issue(running)[0]) | {"dataset": f"{running.dataset_id}@2"}
    claims = issuer.verify(jwt.encode(payload, KEY, algorithm="EdDSA"))
    with database.read() as session, pytest.raises(InvalidCapability, match="another dataset"):
        actors.job(session, claims)
