"""What somebody on the network can make the process do, or find in its logs afterwards."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from secure_train.api.app import create_app, quiet
from secure_train.api.control_plane import ControlPlane
from secure_train.api.limits import UNKNOWN_LIMIT
from secure_train.db import Database

LARGE = b" " * (UNKNOWN_LIMIT + 1)


@pytest.mark.parametrize("authorization", [None, "Bearer st_" + "A" * 43, "Basic YTpi"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_large_body_is_taken_only_from_somebody_who_is_known(
    http: TestClient, authorization: str | None, announced: bool
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    content = LARGE if announced else iter([LARGE[: len(LARGE) // 2]] * 3)
    assert http.post("/api/v1/jobs", headers=headers, content=content).status_code == 413


def test_whoever_is_known_may_send_a_large_body(
    http: TestClient, world: SimpleNamespace, token_of: Callable[[str], str]
) -> None:
    headers = {"Authorization": f"Bearer {token_of(world.engineer)}"}
    assert http.post("/api/v1/jobs", headers=headers, content=LARGE).status_code == 422


def test_the_server_is_not_given_an_exception_to_log(
    plane: ControlPlane,
    world: SimpleNamespace,
    token_of: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("row 17 says 53 years old")

    monkeypatch.setattr(plane.jobs, "list", fail)
    headers = {"Authorization": f"Bearer {token_of(world.engineer)}"}
    # This client raises what reaches the server; there, its message and traceback would go to the log.
    answer = TestClient(quiet(create_app(plane))).get("/api/v1/jobs", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")


def test_a_database_error_does_not_quote_what_was_to_be_stored(database: Database) -> None:
    with pytest.raises(DatabaseError) as raised, database.write() as session:
        session.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": "a secret"})
    assert "a secret" not in str(raised.value)
