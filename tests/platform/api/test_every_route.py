"""Every route there is, enumerated from the application itself: none is open, each decides exactly once."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from secure_train.api.app import create_app
from secure_train.api.control_plane import ControlPlane
from secure_train.db import now
from secure_train.db.tables import DecisionRecord, JobTicket
from secure_train.wire.people import NewPrincipal, NewProject, NewToken

HEX = "0" * 64
ROWS = {"rows": ("rows.csv", b"a,b\n1,2\n")}
DATASET = {
    "name": "adult",
    "project": "census",
    "purposes": ["income-statistics"],
    "classification": 1,
    "budget_epsilon": 1.0,
    "budget_delta": 1e-5,
    "format": "csv",
    "data_schema": {
        "columns": [{"name": "a", "kind": "numeric", "lower": 0, "upper": 1}],
        "target": {"name": "b", "task": "regression", "lower": 0, "upper": 1},
    },
}
SEARCH = {
    "apiVersion": "secure-train/v1",
    "kind": "SearchJob",
    "metadata": {"name": "income", "project": "census", "purpose": "income-statistics"},
    "template": {
        "data": {"dataset": "adult"},
        "model": {"kind": "linear"},
        "privacy": {"epsilon": 1.0, "delta": 1e-5, "evaluation": {"epsilon": 0.2}},
        "training": {"batchSize": 64, "steps": 10, "optimizer": {"kind": "sgd", "learningRate": 0.1}},
    },
    "search": {
        "sampler": "grid",
        "objective": "accuracy",
        "parameters": {"training.seed": {"choices": [1, 2]}},
    },
}
# What each route needs to get as far as its decision. A route that is missing here fails the test.
REQUESTS: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/api/v1/whoami"): {},
    ("POST", "/api/v1/login"): {},
    ("POST", "/api/v1/projects"): {"json": NewProject(id="x").model_dump()},
    ("GET", "/api/v1/projects"): {},
    ("POST", "/api/v1/principals"): {"json": NewPrincipal(id="user:x").model_dump()},
    ("GET", "/api/v1/principals"): {},
    ("PATCH", "/api/v1/principals/{principal}"): {"json": {"clearance": 3}},
    ("POST", "/api/v1/principals/{principal}/tokens"): {"json": NewToken().model_dump()},
    ("GET", "/api/v1/principals/{principal}/tokens"): {},
    ("DELETE", "/api/v1/principals/{principal}/tokens/{token}"): {},
    ("POST", "/api/v1/datasets"): {"form": DATASET},
    ("GET", "/api/v1/datasets"): {},
    ("GET", "/api/v1/datasets/{dataset:path}"): {},
    ("GET", "/api/v1/datasets/{dataset:path}/budget"): {},
    ("PUT", "/api/v1/datasets/{dataset:path}/budget"): {"json": {"epsilon": 2.0, "reason": "more"}},
    ("PUT", "/api/v1/datasets/{dataset:path}/budget/parts"): {
        "json": {"project": "census", "epsilon": 1.0, "reason": "part"}
    },
    ("POST", "/api/v1/datasets/{dataset:path}/versions"): {
        "form": {"format": "csv", "data_schema": DATASET["data_schema"]}
    },
    ("POST", "/api/v1/jobs/plan"): {"spec": {}},
    ("POST", "/api/v1/jobs"): {"spec": {"idempotency_key": "k"}},
    ("GET", "/api/v1/jobs"): {},
    ("GET", "/api/v1/jobs/{job}"): {},
    ("POST", "/api/v1/jobs/{job}/cancel"): {},
    ("POST", "/api/v1/jobs/{job}/resume"): {},
    ("GET", "/api/v1/jobs/{job}/logs"): {},
    ("GET", "/api/v1/jobs/{job}/stream"): {},
    ("GET", "/api/v1/jobs/{job}/report"): {},
    ("POST", "/api/v1/searches/plan"): {"json": {"spec": SEARCH}},
    ("POST", "/api/v1/searches"): {"json": {"spec": SEARCH, "idempotency_key": "k"}},
    ("GET", "/api/v1/searches"): {},
    ("GET", "/api/v1/searches/{search}"): {},
    ("POST", "/api/v1/searches/{search}/cancel"): {},
    ("GET", "/api/v1/models"): {},
    ("GET", "/api/v1/models/{model:path}"): {},
    ("GET", "/api/v1/models/{model:path}/versions/{version}/download"): {},
    ("POST", "/api/v1/models/{model:path}/versions/{version}/predict"): {"files": ROWS},
    ("POST", "/api/v1/models/{model:path}/versions/{version}/promote"): {"json": {}},
    ("DELETE", "/api/v1/models/{model:path}/versions/{version}"): {},
    ("GET", "/api/v1/policy"): {},
    ("GET", "/api/v1/decisions"): {},
    ("GET", "/api/v1/decisions/{decision}"): {},
    ("GET", "/api/v1/audit/events"): {},
    ("POST", "/api/v1/audit/checkpoint"): {},
    ("POST", "/api/v1/audit/verify"): {"json": {}},
    ("GET", "/api/v1/audit/proofs/{seq}"): {},
    ("GET", "/api/v1/audit/export"): {},
    ("GET", "/api/v1/keys"): {},
    ("GET", "/api/v1/system"): {},
    ("POST", "/api/v1/worker/redeem"): {},
    ("POST", "/api/v1/worker/renew"): {},
    ("GET", "/api/v1/worker/code"): {},
    ("POST", "/api/v1/worker/groups"): {"json": {"world_size": 1}},
    ("POST", "/api/v1/worker/dataset"): {"json": {"generation": 1}},
    ("POST", "/api/v1/worker/restore"): {"json": {"generation": 1}},
    ("POST", "/api/v1/worker/restored"): {"json": {"generation": 1, "step": 0}},
    ("POST", "/api/v1/worker/checkpoints/refused"): {
        "json": {"generation": 1, "manifest_id": "m", "reason": "r"}
    },
    ("POST", "/api/v1/worker/checkpoints"): {
        "json": {
            "generation": 1,
            "noise_epoch": 0,
            "step": 1,
            "manifest_id": "m",
            "digest": HEX,
            "state_digest": HEX,
            "logical_bytes": 1,
            "stored_bytes": 1,
            "seconds": 0.1,
        }
    },
    ("POST", "/api/v1/worker/charges"): {
        "json": {"generation": 1, "noise_epoch": 0, "first_step": 0, "last_step": 1}
    },
    ("POST", "/api/v1/worker/releases"): {
        "json": {
            "generation": 1,
            "noise_epoch": 0,
            "step": 1,
            "state_digest": HEX,
            "metrics": {},
            "epsilon": 0.1,
        }
    },
    ("POST", "/api/v1/worker/heartbeat"): {
        "json": {"generation": 1, "rank": 0, "host": "h", "pid": 1, "step": 0, "steps_per_second": 1.0}
    },
    ("POST", "/api/v1/worker/failures"): {"json": {"attempt": 1, "cause": "worker died"}},
    ("POST", "/api/v1/worker/logs"): {
        "json": {"generation": 1, "source": "worker 0", "level": "info", "message": "m"}
    },
    ("POST", "/api/v1/worker/models"): {
        "json": {"generation": 1, "noise_epoch": 0, "state_digest": HEX, "manifest_id": "m", "digest": HEX}
    },
}


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def routes(plane: ControlPlane) -> set[tuple[str, str]]:
    """Every method and path that the application answers."""
    found = set()
    for context in iter_route_contexts(create_app(plane).routes):
        for method in context.methods or ():
            found.add((method, context.path))
    return found


def test_the_table_names_every_route_and_no_other(plane: ControlPlane) -> None:
    assert routes(plane) - {("GET", "/healthz")} == set(REQUESTS)


def _prepared(
    plane: ControlPlane, world: SimpleNamespace, route: tuple[str, str]
) -> tuple[str, dict[str, Any]]:
    """Fill in the path, and the ticket that redeeming needs."""
    request = dict(REQUESTS[route])
    if "spec" in request:
        request["json"] = {"spec": world.job.spec, **request.pop("spec")}
    if "form" in request:
        request["data"] = {"request": json.dumps(request.pop("form"))}
        request["files"] = ROWS
    if route[1].endswith("/redeem"):
        ticket = "stt_" + secrets.token_urlsafe(32)
        with plane.database.write() as session:
            session.add(
                JobTicket(
                    sha256=sha256(ticket.encode()).digest(),
                    job_id=world.job.id,
                    attempt=1,
                    expires_at=now() + timedelta(minutes=5),
                )
            )
        request["json"] = {"ticket": ticket}
    filled = (
        route[1]
        .replace(":path", "")
        .format(
            principal=world.engineer,
            token="tok_x",
            dataset=world.dataset,
            job=world.job.id,
            search="srch_x",
            model=world.model,
            version=1,
            decision="dec_x",
            seq=0,
        )
    )
    return filled, request


def _decisions(plane: ControlPlane) -> tuple[int, int]:
    with plane.database.read() as session:
        denied = select(func.count()).select_from(DecisionRecord)
        return (
            session.scalar(denied) or 0,
            session.scalar(denied.where(DecisionRecord.result == "deny")) or 0,
        )


def test_under_a_deny_all_policy_every_route_is_denied_with_exactly_one_recorded_decision(
    plane: ControlPlane, deny_all: ControlPlane, world: SimpleNamespace, token_of: Callable[[str], str]
) -> None:
    client = TestClient(create_app(deny_all), raise_server_exceptions=False)
    admin, capability = token_of(world.admin), plane.issuer.issue(world.job)[0]
    wrong = {}
    for route in sorted(REQUESTS):
        path, request = _prepared(plane, world, route)
        before = _decisions(plane)
        token = capability if path.startswith("/api/v1/worker/") else admin
        answer = client.request(route[0], path, headers=bearer(token), **request)
        error, after = answer.json()["error"], _decisions(plane)
        seen = (
            answer.status_code,
            error["code"],
            error["reason"],
            after[0] - before[0],
            after[1] - before[1],
        )
        if seen != (403, "denied_by_policy", "deny-all", 1, 1):
            wrong[route] = seen
    assert wrong == {}


def test_without_a_valid_token_every_route_answers_401_and_does_nothing(
    plane: ControlPlane, http: TestClient, world: SimpleNamespace
) -> None:
    wrong = {}
    for route in sorted(REQUESTS):
        path, request = _prepared(plane, world, route)
        if route[1].endswith("/redeem"):
            request["json"] = {"ticket": "stt_" + secrets.token_urlsafe(32)}
        for headers in ({}, bearer("st_" + "A" * 43), bearer("nonsense")):
            answer = http.request(route[0], path, headers=headers, **request)
            seen = (answer.status_code, answer.json()["error"]["code"])
            if seen != (401, "not_authenticated"):
                wrong[route, str(headers)] = seen
    assert wrong == {}
    assert _decisions(plane) == (0, 0)
