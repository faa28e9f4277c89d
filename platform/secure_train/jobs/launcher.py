"""Drivers on a Ray cluster, through its Jobs API. Ray is told what to run and asked what it runs.

What the control plane knows about a job is in its own database: Ray may forget everything at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from secure_train.jobs.capacity import NodeResources
from secure_train.jobs.errors import LauncherError, LauncherUnreachable


class DriverStatus(StrEnum):
    """What Ray says about a driver."""

    ALIVE = "alive"
    FAILED = "failed"
    STOPPED = "stopped"
    ENDED = "ended"
    UNKNOWN = "unknown"


_STATUS = {
    JobStatus.PENDING: DriverStatus.ALIVE,
    JobStatus.RUNNING: DriverStatus.ALIVE,
    JobStatus.FAILED: DriverStatus.FAILED,
    JobStatus.STOPPED: DriverStatus.STOPPED,
    JobStatus.SUCCEEDED: DriverStatus.ENDED,
}


class RayLauncher:
    """Submits, watches and stops drivers.

    Args:
        address: URL of Ray's dashboard, which serves the Jobs API.
        token_file: file with the cluster's token, read anew for each connection; None: it has none.
    """

    def __init__(self, address: str, token_file: Path | None = None) -> None:
        self._address = address
        self._token_file = token_file

    def ping(self) -> None:
        """Return if Ray answers; raises LauncherUnreachable, LauncherError."""
        with self._client("answer"):
            return

    def submit(self, submission_id: str, entrypoint: str, env: Mapping[str, str]) -> None:
        """Start a driver. An id that Ray has taken before is not started again, and is no error.

        Raises:
            LauncherUnreachable: Ray did not answer; the driver may have been started all the same.
            LauncherError: Ray refused.
        """
        try:
            with self._client(f"start {submission_id}") as client:
                client.submit_job(
                    entrypoint=entrypoint, submission_id=submission_id, runtime_env={"env_vars": dict(env)}
                )
        except LauncherUnreachable:
            raise
        except LauncherError:
            if self.status(submission_id) is DriverStatus.UNKNOWN:
                raise

    def status(self, submission_id: str) -> DriverStatus:
        """Return what Ray knows about a driver.

        Raises:
            LauncherUnreachable: Ray did not answer, so nothing is known.
            LauncherError: Ray refused to say.
        """
        with self._client("list its jobs") as client:
            jobs = {job.submission_id: job for job in client.list_jobs()}
        return _STATUS[jobs[submission_id].status] if submission_id in jobs else DriverStatus.UNKNOWN

    def nodes(self) -> list[NodeResources]:
        """Return what each living node of the cluster has in all, used or not.

        Raises:
            LauncherUnreachable: Ray did not answer.
            LauncherError: Ray refused, or answered in another form than Ray 2.60.
        """
        what = "list its nodes"
        with self._client(what):
            # The Jobs API does not tell; Ray's state API, at the same address, does.
            answer = requests.get(f"{self._address}/api/v0/nodes", headers=self._headers(), timeout=30)
            answer.raise_for_status()
        try:
            listed = answer.json()["data"]["result"]["result"]
            return [dict(node["resources_total"]) for node in listed if node["state"] == "ALIVE"]
        except (ValueError, KeyError, TypeError) as error:
            raise LauncherError(
                f"Ray at {self._address} refused to {what}: its answer has another form"
            ) from error

    def stop(self, submission_id: str) -> None:
        """Ask Ray to end a driver and its processes: SIGTERM, then SIGKILL. Returns before they have ended.

        Raises:
            LauncherUnreachable: Ray did not answer.
            LauncherError: Ray refused.
        """
        try:
            with self._client(f"stop {submission_id}") as client:
                client.stop_job(submission_id)
        except LauncherUnreachable:
            raise
        except LauncherError:
            if self.status(submission_id) is DriverStatus.ALIVE:
                raise

    @contextmanager
    def _client(self, what: str) -> Iterator[JobSubmissionClient]:
        """Connect, and turn failures into ours. Ray's messages are left out: they may quote an env."""
        try:
            yield JobSubmissionClient(self._address, headers=self._headers())
        except (requests.RequestException, ConnectionError) as error:
            raise LauncherUnreachable(
                f"Ray's Jobs API at {self._address} does not answer ({type(error).__name__}): "
                "is the cluster running?"
            ) from error
        except (RuntimeError, AuthenticationError) as error:
            raise LauncherError(
                f"Ray at {self._address} refused to {what} ({type(error).__name__})"
            ) from error

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text('ascii').strip()}"}
        except OSError as error:
            raise LauncherUnreachable(
                f"Ray's token file {self._token_file} cannot be read: {error.strerror}"
            ) from error
