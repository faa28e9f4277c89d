"""A Ray cluster of one machine, for the embedded stack: on loopback, under a token, outliving its parent.

The cluster is one supervising process (``ray start --block``) and its children. It is recorded with its start
time, so that a process that got the same number later is never taken for it.

Ray (2.60) binds to all interfaces unless the node's address is loopback, and replaces a loopback address by
another except where clusters are switched off for the platform: hence ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from secure_train.jobs.errors import LauncherError

LOGICAL_CPUS = 8
"""At least so many workers fit, on however few cores: Ray counts CPUs, it does not enforce them."""
_OBJECT_STORE_BYTES = 200_000_000
_START_SECONDS, _STOP_SECONDS, _PAUSE_SECONDS = 120.0, 20.0, 0.2
# What the cluster, and so every job's code, inherits: no address or secret of database and vault.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)


@dataclass(frozen=True)
class _Cluster:
    """A cluster as it is recorded.

    Attributes:
        pid: of the supervising process, which leads a session of its own.
        started: when that process started, as ``ps`` says.
        address: URL of the Jobs API.
        folder: Ray's temporary files; short, since sockets are in it.
    """

    pid: int
    started: str
    address: str
    folder: str


class EmbeddedRay:
    """Starts, adopts and stops the cluster that is recorded in a folder.

    Args:
        home: private folder for the record, the token and the log.
        cpus: logical CPUs; by default those of the machine, but at least ``LOGICAL_CPUS``.
        gpus: as many as Ray finds, by default.
    """

    def __init__(self, home: Path, *, cpus: int | None = None, gpus: int | None = None) -> None:
        self._home = home
        self._cpus = max(os.cpu_count() or 1, LOGICAL_CPUS) if cpus is None else cpus
        self._gpus = gpus
        self._record = home / "ray.json"
        self.token_file = home / "ray.token"

    @property
    def token(self) -> str:
        """The cluster's token."""
        return self.token_file.read_text("ascii").strip()

    @property
    def address(self) -> str:
        """URL of the Jobs API; raises LauncherError if no cluster is recorded."""
        cluster = self._recorded()
        if cluster is None:
            raise LauncherError(f"no Ray cluster is recorded in {self._home}: start the embedded stack")
        return cluster.address

    def running(self) -> bool:
        """Whether the recorded cluster lives and answers."""
        cluster = self._recorded()
        return cluster is not None and _alive(cluster) and self._answers(cluster.address)

    def start(self) -> None:
        """Start the cluster, or adopt the recorded one if it lives. Returns when it answers.

        Raises:
            LauncherError: it did not come up; the log is named.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            cluster = self._recorded()
            if cluster is not None:
                if _alive(cluster) and self._wait_for(cluster):
                    return
                self._end(cluster)
            self._make_token()
            cluster = self._launch()
            if not self._wait_for(cluster):
                self._end(cluster)
                raise LauncherError(f"Ray did not start: see {self._home / 'ray.log'}")

    def stop(self) -> None:
        """Stop the recorded cluster with all that runs on it; nothing happens if there is none."""
        if not self._home.is_dir():
            return
        with self._locked():
            cluster = self._recorded()
            if cluster is not None:
                self._end(cluster)

    def _launch(self) -> _Cluster:
        folder = tempfile.mkdtemp(prefix="st-ray-")
        head, dashboard, client = _free_ports(3)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.1", f"--port={head}", f"--ray-client-server-port={client}"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--num-cpus={self._cpus}", f"--object-store-memory={_OBJECT_STORE_BYTES}"]
        command += ["--disable-usage-stats", "--include-log-monitor=false", "--no-monitor"]
        command += [f"--temp-dir={folder}"]
        if self._gpus is not None:
            command.append(f"--num-gpus={self._gpus}")
        log = os.open(self._home / "ray.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter, our own arguments
                command,
                env=self._environment(),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        cluster = _Cluster(process.pid, _started(process.pid), f"http://127.0.0.1:{dashboard}", folder)
        self._write_record(cluster)
        return cluster

    def _environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return inherited | {
            # Drivers are started as `python`, which must be the one that we are installed in.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file.resolve()),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # Idle processes started in advance would import torch for nobody.
            "RAY_enable_worker_prestart": "0",
        }

    def _make_token(self) -> None:
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(self.token_file, flags, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
        if self.token_file.stat().st_mode & 0o077:
            raise LauncherError(f"{self.token_file} can be read by others: delete it, then start again")

    def _wait_for(self, cluster: _Cluster) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while _alive(cluster) and time.monotonic() < deadline:
            if self._answers(cluster.address):
                return True
            time.sleep(_PAUSE_SECONDS)
        return False

    def _answers(self, address: str) -> bool:
        try:
            answer = httpx.get(
                f"{address}/api/jobs/", headers={"Authorization": f"Bearer {self.token}"}, timeout=10
            )
        except (httpx.TransportError, OSError):
            return False
        return answer.status_code == httpx.codes.OK

    def _end(self, cluster: _Cluster) -> None:
        """Ask Ray's supervisor to end, which ends its children; end what stays."""
        family = _session(cluster.pid) if _alive(cluster) else {}
        if family:
            os.kill(cluster.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while _alive(cluster) and time.monotonic() < deadline:
                time.sleep(_PAUSE_SECONDS)
        left = {pid for pid, started in family.items() if _started(pid) == started}
        for pid in left | _processes_of(cluster.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._record.unlink(missing_ok=True)
        shutil.rmtree(cluster.folder, ignore_errors=True)

    def _recorded(self) -> _Cluster | None:
        try:
            return _Cluster(**json.loads(self._record.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise LauncherError(f"{self._record} is damaged: stop Ray by hand and delete it") from error

    def _write_record(self, cluster: _Cluster) -> None:
        staged = self._record.with_suffix(".new")
        staged.write_text(json.dumps(asdict(cluster)))
        staged.replace(self._record)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._home / "ray.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _ps(*arguments: str) -> list[str]:
    # No check: asked about a process that is gone, ps answers nothing and fails.
    command = ["ps", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own
    return done.stdout.splitlines()


def _started(pid: int) -> str:
    """When a process started; empty if there is none."""
    return "".join(_ps("-o", "lstart=", "-p", str(pid))).strip()


def _alive(cluster: _Cluster) -> bool:
    state = "".join(_ps("-o", "stat=", "-p", str(cluster.pid))).strip()
    return bool(state) and not state.startswith("Z") and _started(cluster.pid) == cluster.started


def _session(leader: int) -> dict[int, str]:
    """The processes of a session, and when each started."""
    found = {}
    for pid in map(int, _ps("-A", "-o", "pid=")):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                found[pid] = _started(pid)
    return found


def _processes_of(folder: str) -> set[int]:
    """Processes that a dead supervisor left behind: those that name its folder on their command line."""
    return {int(line.split(None, 1)[0]) for line in _ps("-A", "-o", "pid=,args=") if folder in line}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
