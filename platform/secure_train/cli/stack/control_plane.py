"""The control plane of an embedded stack as a background process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from secure_train.api.settings import Settings
from secure_train.cli.errors import StackError
from secure_train.cli.stack.home import Home
from secure_train.cli.stack.process import POLL_SECONDS, ProcessId, Record, start, tail

START_SECONDS = 300.0
STOP_SECONDS = 20.0
HEALTH_SECONDS = 5.0


class PortTaken(StackError):
    """Somebody else has taken the port."""


def answers(url: str) -> bool:
    """Whether a control plane answers at this address."""
    try:
        response = httpx.get(f"{url}/healthz", timeout=HEALTH_SECONDS)
    except httpx.TransportError:
        return False
    return response.status_code == httpx.codes.OK


def running(home: Home) -> Record | None:
    """Return the process that serves this home; None if there is none."""
    record = Record.load(home.control_plane_record)
    return record if record is not None and record.process.alive else None


def start_control_plane(home: Home, settings: Settings, port: int) -> Record:
    """Start it and wait until it answers.

    Raises:
        PortTaken: another process was faster; another port may do.
        StackError: it ended or did not answer; the message holds the end of its log.
    """
    log = home.control_plane_log
    command = [
        sys.executable,
        "-m",
        "secure_train.cli",
        "serve",
        "--home",
        str(home.path),
        "--port",
        str(port),
        "--migrate",
        "--record",
        str(home.control_plane_record),
    ]
    # A server must not act, nor let its children act, as whoever happened to start it.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"SECURE_TRAIN_URL", "SECURE_TRAIN_TOKEN"}
    }
    child = start(command, log, environment)
    until = time.monotonic() + START_SECONDS
    while True:
        record = running(home)
        # The recorded process holds the port, so an answer is from it and from no other.
        if record is not None and record.process.pid == child.pid and answers(record.url):
            return record
        if child.poll() is not None:
            if not is_free(settings.host, port):
                raise PortTaken(f"port {port} of {settings.host} was taken meanwhile")
            raise _no_start(child, log)
        if time.monotonic() > until:
            _end(child)
            raise StackError(f"the control plane did not answer for {START_SECONDS:g} s", f"read {log}")
        time.sleep(POLL_SECONDS)


def record_this_process(path: Path, url: str) -> None:
    """Write down that this process serves: it does so itself, so that no start is ever lost."""
    process = ProcessId.of(os.getpid())
    if process is None:
        raise StackError("this process is not in /proc", "run the embedded stack on Linux with /proc mounted")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    Record(process, url).save(path)


def stop_control_plane(home: Home) -> bool:
    """Stop it. Returns whether it ran. The record stays: the next start takes the same port."""
    record = running(home)
    if record is not None:
        record.process.stop(STOP_SECONDS)
    return record is not None


def choose_port(home: Home, settings: Settings) -> int:
    """Return a free port: that of the last start, as contexts have it; else the configured; else any."""
    last = Record.load(home.control_plane_record)
    wanted = [settings.port]
    if last is not None:
        known = httpx.URL(last.url).port
        wanted = [*([known] if known else []), *wanted]
    for port in wanted:
        if is_free(settings.host, port):
            return port
    with socket.socket() as probe:
        probe.bind((settings.host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether a server could take this port."""
    with socket.socket() as probe:
        # As the server does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _no_start(child: subprocess.Popen[bytes], log: Path) -> StackError:
    return StackError(
        f"the control plane ended at once (status {child.wait()}); the end of its log:\n{tail(log)}",
        f"the whole log is {log}; `secure-train doctor` checks what it needs",
    )
