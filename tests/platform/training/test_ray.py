"""Drivers and workers on a real Ray cluster; only the control plane is a fixture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from secure_train.jobs.embedded_ray import EmbeddedRay
from secure_train.jobs.launcher import RayLauncher

pytestmark = pytest.mark.slow
DRIVER = f"{sys.executable} -m secure_train.training.driver"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRay]:
    embedded = EmbeddedRay(tmp_path_factory.mktemp("ray"), cpus=4, gpus=0)
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture(scope="module")
def jobs(cluster: EmbeddedRay) -> JobSubmissionClient:
    return JobSubmissionClient(cluster.address, headers={"Authorization": f"Bearer {cluster.token}"})


def submit(jobs: JobSubmissionClient, plane: Any, ticket: str = "stt_once") -> str:
    variables = {"SECURE_TRAIN_URL": plane.url, "SECURE_TRAIN_TICKET": ticket}
    submission: str = jobs.submit_job(entrypoint=DRIVER, runtime_env={"env_vars": variables})
    return submission


def ended(jobs: JobSubmissionClient, submission: str) -> JobStatus:
    return wait_until(lambda: status if (status := jobs.get_job_status(submission)).is_terminal() else None)


def wait_until(condition: Callable[[], Any]) -> Any:
    """The first true value; pytest's own timeout ends a wait in vain."""
    while not (value := condition()):
        time.sleep(0.05)
    return value


def workers_of(plane: Any, generation: int) -> dict[int, int]:
    """Process ids by rank, as their heartbeats say."""
    with plane.lock:
        return {beat.rank: beat.pid for _, beat in plane.heartbeats if beat.generation == generation}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def long_job(job_spec: Callable[..., dict[str, Any]], **changes: Any) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "resources": {"workers": 2},
        "recovery": {"checkpointEvery": 20, "maxFailures": 2},
        "training": {"steps": 600},
        "privacy": {"evaluation": {"epsilon": 1.0, "every": 200}},
    }
    return job_spec(**{**sections, **changes})


def test_the_cluster_listens_on_loopback_asks_for_its_token_and_is_adopted(cluster: EmbeddedRay) -> None:
    assert requests.get(f"{cluster.address}/api/jobs/", timeout=30).status_code == 401
    before = cluster.address
    EmbeddedRay(cluster.token_file.parent).start()
    assert cluster.address == before
    assert cluster.token_file.stat().st_mode & 0o777 == 0o600
    listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
    supervisor = os.getsid(_supervisor(cluster))
    for line in listening.splitlines():
        for pid in (int(part.split(",")[0]) for part in line.split("pid=")[1:]):
            if os.getsid(pid) == supervisor:
                host = line.split()[3].rpartition(":")[0]
                assert host in ("127.0.0.1", "[::ffff:127.0.0.1]")


def test_the_size_of_the_cluster_is_known(cluster: EmbeddedRay) -> None:
    # Ray lists a node only some seconds after its start.
    (node,) = wait_until(RayLauncher(cluster.address, cluster.token_file).nodes)
    assert node["CPU"] == 4.0


def test_a_job_survives_the_death_of_a_worker_without_new_noise_or_charges(
    control, jobs, job_spec, record_testsuite_property
) -> None:
    plane = control(long_job(job_spec), steps=600)
    submission = submit(jobs, plane)
    wait_until(lambda: len(workers_of(plane, 1)) == 2 and len(plane.checkpoints) >= 3)
    killed = time.time()
    os.kill(workers_of(plane, 1)[1], signal.SIGKILL)
    wait_until(lambda: len(workers_of(plane, 2)) == 2)
    with plane.lock:
        again = [at for at, beat in plane.heartbeats if beat.generation == 2]
    record_testsuite_property("seconds_from_kill_to_both_stepping", round(max(again[:2]) - killed, 2))
    assert ended(jobs, submission) is JobStatus.SUCCEEDED
    assert [failure.cause for failure in plane.failures] == ["worker 1: its process died"]
    assert (plane.state, plane.noise_epoch, plane.steps_charged) == ("succeeded", 0, 600)
    assert plane.restored[0] == 0
    assert plane.restored[1] > 0
    assert sorted(plane.releases) == [(0, 200), (0, 400), (0, 600)]


def test_no_worker_outlives_its_driver(control, jobs, job_spec) -> None:
    plane = control(long_job(job_spec, training={"steps": 100_000}), steps=100_000)
    submission = submit(jobs, plane)
    pids = wait_until(lambda: pids if len(pids := workers_of(plane, 1)) == 2 else None)
    os.kill(_driver(jobs, submission), signal.SIGKILL)
    wait_until(lambda: all(gone(pid) for pid in pids.values()))
    assert ended(jobs, submission) is JobStatus.FAILED


def test_a_cancelled_jobs_workers_end_themselves(control, jobs, job_spec) -> None:
    plane = control(long_job(job_spec, training={"steps": 100_000}), steps=100_000)
    submission = submit(jobs, plane)
    pids = wait_until(lambda: pids if len(pids := workers_of(plane, 1)) == 2 else None)
    plane.state = "cancelled"
    assert ended(jobs, submission) is JobStatus.FAILED
    wait_until(lambda: all(gone(pid) for pid in pids.values()))
    assert plane.generation == 1


def test_a_mistake_in_the_authors_code_fails_the_job_without_another_try(
    control, jobs, job_spec, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "own.py").write_text("def make(in_features, out_features):\n    raise ValueError('row 4711')\n")
    model = {"kind": "entrypoint", "entrypoint": "own:make"}
    plane = control(long_job(job_spec, model=model), steps=600, code=code)
    submission = submit(jobs, plane)
    assert ended(jobs, submission) is JobStatus.FAILED
    (failure,) = plane.failures
    assert failure.permanent
    assert failure.cause.endswith("the model could not be built: ValueError at own.py:2")
    assert plane.generation == 1
    assert "4711" not in jobs.get_job_logs(submission)


def test_a_capability_is_renewed_while_a_job_runs(control, jobs, job_spec) -> None:
    plane = control(long_job(job_spec), steps=600, token_seconds=2)
    assert ended(jobs, submit(jobs, plane)) is JobStatus.SUCCEEDED
    assert plane.requests["renew"] > 1


def test_a_used_ticket_starts_nothing(control, jobs, job_spec) -> None:
    plane = control(long_job(job_spec))
    submission = submit(jobs, plane, ticket="stt_used")
    assert ended(jobs, submission) is JobStatus.FAILED
    assert plane.generation == 0


def _supervisor(cluster: EmbeddedRay) -> int:
    record = json.loads((cluster.token_file.parent / "ray.json").read_text())
    return int(record["pid"])


def _driver(jobs: JobSubmissionClient, submission: str) -> int:
    """The driver's process: its environment names the submission."""
    needle = f'"{submission}"'.encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"secure_train.training.driver" in command and b"sh\0-c" not in command and needle in environment:
            return int(folder.name)
    raise AssertionError("there is no driver")
