"""Shared fixtures: real databases, started here as an unprivileged user and stopped again."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

POSTGRESQL_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if os.name == "posix" else []


def _missing(what: str, remedy: str) -> None:
    """A part the tests need is absent: a failure in CI, where nothing may be skipped; a skip elsewhere."""
    message = f"{what} is not installed; {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A throw-away PostgreSQL server on a random loopback port. Yields its administrative URL."""
    if not POSTGRESQL_BINARIES:
        _missing("PostgreSQL", "run `apt-get install postgresql`")
    binaries = POSTGRESQL_BINARIES[-1]
    home = Path(tempfile.mkdtemp(prefix="secure-train-pg-"))
    # PostgreSQL refuses to run as root: drop to the system user that Debian's package creates.
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    if account is not None:
        os.chown(home, account.pw_uid, account.pw_gid)
    identity = {"user": account.pw_uid, "group": account.pw_gid} if account is not None else {}
    data, port = home / "data", _free_port()

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=home, **identity)  # type: ignore[call-overload]

    run(
        str(binaries / "initdb"),
        "--pgdata",
        str(data),
        "--username=secure_train",
        "--auth=trust",
        "--no-sync",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home} -c fsync=off -c max_connections=200"
    log = str(home / "server.log")
    run(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", log, "start")
    try:
        yield f"postgresql+psycopg://secure_train@127.0.0.1:{port}/postgres"
    finally:
        run(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(home)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """An SQLAlchemy URL of a fresh, empty PostgreSQL database, dropped after the test."""
    name = f"t_{secrets.token_hex(6)}"
    admin = postgresql_server.replace("+psycopg", "")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
    yield postgresql_server.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh empty database of each kind that the product supports."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url
