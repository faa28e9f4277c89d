"""What is said about a worker that ended."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from secure_train.client.errors import ApiError
from secure_train.training import worker
from secure_train.training.failures import (
    Diverged,
    Fenced,
    PeerLost,
    PermanentFailure,
    WorkerFailure,
    describe,
    refused,
)
from secure_train.wire.base import ErrorBody
from secure_train.wire.worker import ReportFailure, ReportLog


def caught(path: Path, source: str) -> Exception:
    try:
        exec(compile(source, str(path), "exec"), {"__name__": "own"})  # noqa: S102  # plays the author's code
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_description_names_type_file_and_line_and_quotes_nothing(tmp_path: Path) -> None:
    error = caught(tmp_path / "own.py", "\n\nraise KeyError('patient 4711')")
    assert describe(error, tmp_path) == "KeyError at own.py:3"
    assert describe(error) == "KeyError"


def test_a_description_points_into_the_authors_code_rather_than_into_a_library(tmp_path: Path) -> None:
    error = caught(tmp_path / "own.py", "import json\njson.loads('{')")
    assert describe(error, tmp_path) == "JSONDecodeError at own.py:2"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "not_authenticated", Fenced),
        (403, "denied_by_policy", Fenced),
        (409, "stale", Fenced),
        (409, "diverged", Diverged),
        (409, "conflict", PermanentFailure),
        (422, "invalid", PermanentFailure),
        (409, "unreadable", WorkerFailure),
        (500, "internal", WorkerFailure),
    ],
)
def test_a_refusal_is_understood(status: int, code: str, kind: type[WorkerFailure]) -> None:
    failure = refused(ApiError(status, ErrorBody.model_validate({"code": code, "message": "row 4711"})))
    assert type(failure) is kind
    assert "4711" not in failure.cause


def test_failures_travel_between_processes_and_keep_their_kind() -> None:
    for kind in (WorkerFailure, PeerLost, Diverged, Fenced, PermanentFailure):
        copy = pickle.loads(pickle.dumps(kind("why")))  # noqa: S301  # as Ray does with its workers' exceptions
        assert type(copy) is kind
        assert copy.cause == "why"


def test_a_refusal_by_the_control_plane_travels_between_processes() -> None:
    body = ErrorBody(code="conflict", message="no", hint="wait", details=[{"path": "a"}])
    copy = pickle.loads(pickle.dumps(ApiError(409, body)))  # noqa: S301  # as Ray does
    assert (type(copy), copy.status, copy.body, str(copy)) == (ApiError, 409, body, "no")


def test_the_most_telling_of_several_failures_is_reported() -> None:
    from secure_train.training.reporting import most_telling

    lost, died = PeerLost("lost a peer"), WorkerFailure("its process died")
    assert most_telling({0: lost, 1: died}) == (1, died)
    permanent = PermanentFailure("no such column")
    assert most_telling({0: died, 1: lost, 2: permanent}) == (2, permanent)
    rank, foreign = most_telling({0: SystemExit("row 4711")})  # type: ignore[dict-item]  # user code may
    assert (rank, foreign.cause) == (0, "SystemExit")


def test_what_an_author_named_cannot_control_a_readers_terminal() -> None:
    """Types and files carry names of the author's choice, and both are part of a cause."""
    error = type("\x1b[2JError\x9b31m", (Exception,), {})()
    sent = ReportFailure(attempt=1, cause=describe(error)).model_dump_json()
    assert ReportFailure.model_validate_json(sent).cause == "?[2JError?31m"
    line = ReportLog(generation=1, source="worker\x1b", level="info", message="two\nlines\x07")
    assert (line.source, line.message) == ("worker?", "two\nlines?")


def test_an_authors_exit_leaves_its_message_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_: object) -> None:
        raise SystemExit("patient 4711")

    config = {"url": "http://127.0.0.1:9", "job_id": "job_1", "spec": {}, "code_digest": None, "keeper": None}
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    for name, stand_in in {
        "_silence": lambda: None,
        "job_from_json": lambda _: None,
        "_configure_torch": lambda _: None,
        "get_device": lambda: torch.device("cpu"),
        "run_worker": leave,
    }.items():
        monkeypatch.setattr(worker, name, stand_in)
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    with pytest.raises(WorkerFailure) as failure:
        worker.train_worker(config)
    assert failure.value.cause.startswith("SystemExit")
    assert "4711" not in failure.value.cause
