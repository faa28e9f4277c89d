"""What the application does around its routes: errors that tell nothing, limits, streams, its description."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from secure_train import identity
from secure_train.api import live
from secure_train.api.app import create_app
from secure_train.api.control_plane import ControlPlane
from secure_train.api.openapi import document
from secure_train.db import Database
from secure_train.db.tables import Job, JobLog, Principal

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def bearer(world: SimpleNamespace, token_of: Callable[[str], str]) -> Callable[[str], dict[str, str]]:
    """Call it with a principal's id for headers that carry its token."""
    return lambda principal: {"Authorization": f"Bearer {token_of(principal)}"}


def test_health_is_open_and_tells_nothing_else(http: TestClient) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}


def test_an_unexpected_failure_answers_500_without_the_exceptions_text(
    plane: ControlPlane,
    http: TestClient,
    world: SimpleNamespace,
    bearer: Callable[[str], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("row 17 says 53 years old")

    monkeypatch.setattr(plane.jobs, "list", fail)
    answer = http.get("/api/v1/jobs", headers=bearer(world.engineer))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "row 17" not in answer.text + caplog.text


def test_a_body_over_the_limit_is_refused_whether_or_not_it_is_announced(
    database: Database, plane: ControlPlane, world: SimpleNamespace, bearer: Callable[[str], dict[str, str]]
) -> None:
    plane.settings = plane.settings.model_copy(update={"max_upload_bytes": 1000})
    small = TestClient(create_app(plane), raise_server_exceptions=False)
    headers = bearer(world.admin)
    announced = small.post("/api/v1/projects", headers=headers, content=b"x" * 1001)
    streamed = small.post("/api/v1/projects", headers=headers, content=iter([b"x" * 600, b"x" * 600]))
    assert [announced.status_code, streamed.status_code] == [413, 413]
    assert streamed.json()["error"]["code"] == "too_large"


def test_an_invalid_body_names_the_field_and_not_the_value(
    http: TestClient, world: SimpleNamespace, bearer: Callable[[str], dict[str, str]]
) -> None:
    answer = http.post(
        "/api/v1/principals", headers=bearer(world.admin), json={"id": "user:x", "clearance": 77}
    )
    assert answer.status_code == 422
    assert [entry["path"] for entry in answer.json()["error"]["details"]] == ["body.clearance"]
    assert "77" not in answer.text


def test_an_attribute_in_a_request_is_not_believed(
    http: TestClient, world: SimpleNamespace, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer(world.engineer) | {"X-Roles": "admin", "X-Principal": "user:ada"}
    assert http.get("/api/v1/keys", headers=headers).status_code == 403
    assert (
        http.get("/api/v1/keys?roles=admin", headers=headers).json()["error"]["reason"] == "no_policy_permits"
    )


def test_what_one_may_not_see_and_what_does_not_exist_answer_alike(
    http: TestClient, world: SimpleNamespace, rows: Any, plane: ControlPlane, token_of: Callable[[str], str]
) -> None:
    with plane.database.write() as session:
        outsider = rows.principal(session, "user:oscar", projects=())
    headers = {"Authorization": f"Bearer {token_of(outsider.id)}"}
    for path in (
        f"/api/v1/jobs/{world.job.id}",
        "/api/v1/jobs/job_none",
        f"/api/v1/datasets/{world.dataset}",
    ):
        answer = http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "no_policy_permits")
    admin = {"Authorization": f"Bearer {token_of(world.admin)}"}
    assert http.get("/api/v1/jobs/job_none", headers=admin).status_code == 404


def test_a_revoked_token_is_refused_on_the_next_request(
    http: TestClient, plane: ControlPlane, world: SimpleNamespace
) -> None:
    with plane.database.write() as session:
        token, secret = identity.issue_token(session, world.engineer, label="", days=1)
    headers = {"Authorization": f"Bearer {secret}"}
    assert http.get("/api/v1/whoami", headers=headers).status_code == 200
    with plane.database.write() as session:
        identity.revoke_token(session, session.merge(token))
    assert http.get("/api/v1/whoami", headers=headers).status_code == 401


def _frames(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        if block.startswith(":"):  # a comment: the server is alive
            continue
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_stream_shows_log_and_state_and_ends_with_the_job(
    plane: ControlPlane, http: TestClient, world: SimpleNamespace, bearer: Callable[[str], dict[str, str]]
) -> None:
    with plane.database.write() as session:
        session.add(JobLog(job_id=world.job.id, seq=0, source="control", level="info", message="hello"))
        session.get_one(Job, world.job.id).state = "failed"
    answer = http.get(f"/api/v1/jobs/{world.job.id}/stream", headers=bearer(world.engineer))
    frames = _frames(answer.text)
    assert [kind for kind, _ in frames] == ["log", "job"]
    assert (frames[0][1]["message"], frames[1][1]["state"]) == ("hello", "failed")


def test_a_stream_ends_when_its_reader_loses_the_right_to_it(
    plane: ControlPlane,
    http: TestClient,
    world: SimpleNamespace,
    bearer: Callable[[str], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polls = 0
    poll = live._poll

    def deactivate_after_the_first(*arguments: Any) -> Any:
        nonlocal polls
        polls += 1
        if polls == 2:
            with plane.database.write() as session:
                identity.update_principal(session, session.get_one(Principal, world.engineer), active=False)
        return poll(*arguments)

    monkeypatch.setattr(live, "_poll", deactivate_after_the_first)
    answer = http.get(f"/api/v1/jobs/{world.job.id}/stream", headers=bearer(world.engineer))
    assert (answer.status_code, polls) == (200, 2), answer.text
    assert [kind for kind, _ in _frames(answer.text)] == ["job"]


def test_the_openapi_document_in_docs_is_that_of_the_code() -> None:
    written = (REPOSITORY / "docs/openapi.json").read_text("utf-8")
    assert written == document(), "run: python -m secure_train.api.openapi > docs/openapi.json"


def test_whoever_was_denied_may_read_why_with_the_text_of_the_policy(
    http: TestClient, world: SimpleNamespace, bearer: Callable[[str], dict[str, str]], spec: dict[str, Any]
) -> None:
    headers = bearer(world.engineer)
    spec = spec | {"metadata": spec["metadata"] | {"purpose": "marketing"}}
    denied = http.post("/api/v1/jobs", headers=headers, json={"spec": spec, "idempotency_key": "k"})
    decision = denied.json()["error"]["decision_id"]
    answer = http.get(f"/api/v1/decisions/{decision}", headers=headers)
    assert answer.status_code == 200
    (source,) = answer.json()["sources"]
    assert '@id("purpose-not-allowed")' in source
    assert http.get("/api/v1/policy", headers=headers).status_code == 403
