"""A job that its cluster can never hold says so, and does not wait for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from secure_train.db.tables import JobTransition
from secure_train.jobs.capacity import NodeResources, shortage
from secure_train.jobs.controller import Timing
from secure_train.spec import Resources

LIMIT = timedelta(minutes=10)


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "nodes", "said"),
    [
        (2, 1, 0, [{"CPU": 2.0}], None),
        (4, 1, 0, [{"CPU": 2.0}], "waiting for 4 CPUs, the cluster has 2"),
        (1, 1, 1, [{"CPU": 8.0}], "waiting for 1 GPU, the cluster has 0"),
        (2, 1, 1, [{"CPU": 1.0}], "waiting for 2 CPUs, the cluster has 1; for 2 GPUs, the cluster has 0"),
        (2, 3, 0, [{"CPU": 3.0}, {"CPU": 3.0}], None),
        (1, 4, 0, [{"CPU": 3.0}, {"CPU": 3.0}], "waiting for 1 workers of 4 CPUs each"),
    ],
)
def test_what_is_lacking_is_named(
    workers: int, cpus: int, gpus: int, nodes: list[NodeResources], said: str | None
) -> None:
    resources = Resources.model_validate({"workers": workers, "cpusPerWorker": cpus, "gpusPerWorker": gpus})
    found = shortage(resources, nodes)
    assert found == said if said is None else (found or "").startswith(said)


def _waited(plane: Any, job_id: str, how_long: timedelta) -> None:
    """Make the job's newest change of state as old as that."""
    with plane.database.write() as session:
        newest = session.query(JobTransition).filter_by(job_id=job_id).order_by(JobTransition.seq.desc())
        newest.first().at -= how_long


def test_a_job_larger_than_the_cluster_says_so_once_and_fails_when_it_does_not_grow(plane: Any) -> None:
    plane.ray.cluster = [{"CPU": 2.0}]
    plane.new_controller(Timing(capacity=LIMIT))
    job_id = plane.submit(resources__workers=4)
    for _ in range(3):
        plane.controller.tick()
    lacking = "waiting for 4 CPUs, the cluster has 2"
    job = plane.job(job_id)
    assert (job.state, job.reason) == ("starting", lacking)
    lines = [line.message for line in plane.jobs.logs(plane.actor("user:alice"), job_id, -1)]
    assert lines.count(lacking) == 1
    _waited(plane, job_id, LIMIT)
    plane.controller.tick()
    job = plane.job(job_id)
    assert (job.state, job.reason) == ("failed", f"{lacking}; it has not grown for 10 min")
    assert plane.reservation(job_id).state == "settled"
    plane.controller.tick()
    assert plane.ray.stopped == [f"{job_id}-1"]


def test_a_cluster_that_grows_in_time_runs_the_job(plane: Any) -> None:
    plane.ray.cluster = [{"memory": 1e9}]
    plane.new_controller(Timing(capacity=LIMIT))
    job_id = plane.submit()
    plane.controller.tick()
    plane.controller.tick()
    assert plane.job(job_id).reason == "waiting for 1 CPU, the cluster has 0"
    plane.ray.cluster = [{"CPU": 1.0}]
    _waited(plane, job_id, LIMIT)
    plane.controller.tick()
    processes = plane.launched(job_id)
    processes.start()
    assert plane.job(job_id).state == "running"


def test_a_cluster_that_does_not_know_its_nodes_yet_is_not_called_too_small(plane: Any) -> None:
    plane.ray.cluster = []
    plane.new_controller(Timing(capacity=timedelta(0)))
    job_id = plane.submit()
    plane.controller.tick()
    plane.controller.tick()
    assert plane.job(job_id).state == "starting"


def test_a_job_that_trains_does_not_ask_how_large_the_cluster_is(plane: Any) -> None:
    plane.new_controller(Timing(capacity=timedelta(0)))
    job_id = plane.submit()
    plane.training(job_id)
    plane.ray.cluster = []
    plane.controller.tick()
    assert plane.job(job_id).state == "running"
