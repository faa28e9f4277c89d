"""People at their terminals, and a control plane for them to talk to."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_shell import COMMAND, EXAMPLES, Shell

from secure_train.cli.stack.control_plane import answers
from secure_train.client import Client
from secure_train.wire.people import NewPrincipal, NewProject, NewToken


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Somebody who has never used secure-train."""
    return Shell(tmp_path)


@dataclass
class Server:
    """A control plane without Ray: jobs are accepted and stay queued."""

    url: str
    tokens: dict[str, str]

    def shell(self, folder: Path, person: str) -> Shell:
        return Shell(folder, SECURE_TRAIN_URL=self.url, SECURE_TRAIN_TOKEN=self.tokens[person])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane started by the command itself, with an administrator, an owner and an engineer."""
    shell = Shell(tmp_path_factory.mktemp("server"))
    assert shell("db", "upgrade").status == 0
    admin = shell("db", "first-admin", "-o", "json").data["token"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (shell.folder / "serve.log").open("w")
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", str(port)],
        stdout=log,
        stderr=log,
        cwd=shell.folder,
        env=shell.environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not answers(url):
            assert process.poll() is None, (shell.folder / "serve.log").read_text()
            time.sleep(0.1)
        tokens = {"user:admin": admin}
        with Client(url, admin) as client:
            client.create_project(NewProject(id="census"))
            for name, role in (("user:olivia", "data-owner"), ("user:erin", "engineer")):
                client.create_principal(
                    NewPrincipal(id=name, roles=[role], projects=["census"], clearance=2)  # type: ignore[list-item]
                )
                tokens[name] = client.issue_token(name, NewToken()).secret
        yield Server(url, tokens)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.close()


@pytest.fixture(scope="session")
def some_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 3,000 rows of the Adult census."""
    path = tmp_path_factory.mktemp("rows") / "adult.csv"
    lines = (EXAMPLES / "data" / "adult.csv").read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:3001]), "utf-8")
    return path


@pytest.fixture(scope="session")
def dataset(server: Server, some_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Those rows, registered by their owner."""
    olivia = server.shell(tmp_path_factory.mktemp("olivia"), "user:olivia")
    schema = EXAMPLES / "adult" / "adult.schema.yaml"
    names = f"data register {some_rows} --name adult --project census --schema {schema}"
    rules = "--purpose income-statistics --classification confidential"
    budget = "--budget-epsilon 10 --budget-delta 1e-4"
    found: dict[str, Any] = olivia(*f"{names} {rules} {budget} -o json".split()).data
    return found


@pytest.fixture
def admin(server: Server, tmp_path: Path) -> Shell:
    return server.shell(tmp_path, "user:admin")


@pytest.fixture
def olivia(server: Server, tmp_path: Path) -> Shell:
    return server.shell(tmp_path, "user:olivia")


@pytest.fixture
def erin(server: Server, tmp_path: Path) -> Shell:
    return server.shell(tmp_path, "user:erin")


@pytest.fixture
def job_file(dataset: dict[str, Any], tmp_path: Path) -> Path:
    """A small job on the registered rows."""
    text = (EXAMPLES / "adult" / "job.yaml").read_text("utf-8")
    path = tmp_path / "job.yaml"
    path.write_text(text.replace("batchSize: 512", "batchSize: 128"), "utf-8")
    return path
