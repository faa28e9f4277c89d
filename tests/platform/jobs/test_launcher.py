"""The launcher against an HTTP server that answers as Ray's Jobs API does."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from secure_train.jobs import LauncherError, LauncherUnreachable
from secure_train.jobs.launcher import DriverStatus, RayLauncher


class JobsApi(ThreadingHTTPServer):
    """Remembers submissions; refuses an id it knows, as Ray does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.authorizations: list[str | None] = []
        self.broken = False
        self.nodes: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: JobsApi

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.server.authorizations.append(self.headers.get("Authorization"))
        if self.path == "/api/version":
            self._answer(200, {"version": "4", "ray_version": ray.__version__, "ray_commit": ""})
        elif self.server.broken:
            self._answer(500, "SECRET_TICKET in a traceback")
        elif self.path == "/api/v0/nodes":
            self._answer(200, {"data": {"result": {"result": self.server.nodes}}})
        else:
            self._answer(200, list(self.server.jobs.values()))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.server.broken:
            self._answer(500, "SECRET_TICKET in a traceback")
        elif self.path == "/api/jobs/":
            name = body["submission_id"]
            if name in self.server.jobs:
                self._answer(500, f"Job with submission_id {name} already exists")
                return
            self.server.jobs[name] = {
                "type": "SUBMISSION",
                "submission_id": name,
                "status": "RUNNING",
                "entrypoint": body["entrypoint"],
                "runtime_env": body["runtime_env"],
            }
            self._answer(200, {"job_id": name, "submission_id": name})
        else:
            name = self.path.split("/")[3]
            if name not in self.server.jobs:
                self._answer(404, "no such job")
                return
            self.server.jobs[name]["status"] = "STOPPED"
            self._answer(200, {"stopped": True})


@pytest.fixture
def api() -> Iterator[JobsApi]:
    server = JobsApi()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_driver_is_submitted_once_watched_and_stopped(api: JobsApi) -> None:
    launcher = RayLauncher(api.url)
    assert launcher.status("job_a-1") is DriverStatus.UNKNOWN
    launcher.submit("job_a-1", "python -m driver", {"SECURE_TRAIN_TICKET": "stt_1"})
    launcher.submit("job_a-1", "python -m driver", {"SECURE_TRAIN_TICKET": "stt_2"})
    assert api.jobs["job_a-1"]["runtime_env"] == {"env_vars": {"SECURE_TRAIN_TICKET": "stt_1"}}
    assert launcher.status("job_a-1") is DriverStatus.ALIVE
    launcher.stop("job_a-1")
    assert launcher.status("job_a-1") is DriverStatus.STOPPED
    launcher.stop("job_unknown-1")


def test_what_the_living_nodes_have_in_all_is_known(api: JobsApi) -> None:
    api.nodes = [
        {"state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 1e9}},
        {"state": "DEAD", "resources_total": {"CPU": 64.0}},
    ]
    launcher = RayLauncher(api.url)
    assert launcher.nodes() == [{"CPU": 4.0, "memory": 1e9}]
    api.nodes = [{"state": "ALIVE"}]
    with pytest.raises(LauncherError, match="another form"):
        launcher.nodes()
    api.broken = True
    with pytest.raises(LauncherUnreachable):
        launcher.nodes()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("PENDING", DriverStatus.ALIVE),
        ("RUNNING", DriverStatus.ALIVE),
        ("FAILED", DriverStatus.FAILED),
        ("STOPPED", DriverStatus.STOPPED),
        ("SUCCEEDED", DriverStatus.ENDED),
    ],
)
def test_what_ray_says_is_understood(api: JobsApi, said: str, meant: DriverStatus) -> None:
    launcher = RayLauncher(api.url)
    launcher.submit("job_a-1", "true", {})
    api.jobs["job_a-1"]["status"] = said
    assert launcher.status("job_a-1") is meant


def test_the_clusters_token_is_read_anew_and_sent(api: JobsApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    launcher = RayLauncher(api.url, token)
    launcher.ping()
    token.write_text("second\n")
    launcher.ping()
    assert {"Bearer first", "Bearer second"} <= set(api.authorizations)
    os.unlink(token)
    with pytest.raises(LauncherUnreachable, match="token file"):
        launcher.ping()


def test_no_answer_is_told_apart_from_a_refusal(api: JobsApi) -> None:
    with pytest.raises(LauncherUnreachable, match="does not answer"):
        RayLauncher("http://127.0.0.1:9").status("job_a-1")
    api.broken = True
    launcher = RayLauncher(api.url)
    for request in (
        lambda: launcher.status("job_a-1"),
        lambda: launcher.submit("job_a-1", "true", {}),
        lambda: launcher.stop("job_a-1"),
    ):
        with pytest.raises(LauncherError) as caught:
            request()
        assert not isinstance(caught.value, LauncherUnreachable)
        assert "SECRET_TICKET" not in str(caught.value)
