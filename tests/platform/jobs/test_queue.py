"""Which job is next."""

from __future__ import annotations

import threading
from typing import Any

from secure_train.db.tables import Job, Project
from secure_train.jobs import JobState
from secure_train.jobs.queue import next_jobs, waiting_projects
from secure_train.jobs.transitions import transition


def _queued(plane: Any, name: str, **values: Any) -> str:
    """A queued job beside the budget: a copy of the row of the job `template`."""
    template = plane.job(plane.submit("template"))
    copied = {column.key: getattr(template, column.key) for column in Job.__table__.columns}
    with plane.database.write() as session:
        session.add(Job(**{**copied, "id": f"job_{name}", "idempotency_key": name, **values}))
    return f"job_{name}"


def _next(plane: Any) -> list[str]:
    with plane.database.write() as session:
        return [job.id for job in next_jobs(session, "census")]


def _allow(plane: Any, count: int) -> None:
    with plane.database.write() as session:
        session.get_one(Project, "census").max_running_jobs = count


def test_urgent_jobs_come_first_and_then_older_ones(plane: Any) -> None:
    old = plane.submit("template")
    young, urgent = _queued(plane, "young"), _queued(plane, "urgent", priority=90)
    _allow(plane, 9)
    with plane.database.write() as session:
        session.get_one(Job, young).created_at = session.get_one(Job, urgent).created_at
        session.get_one(Job, old).created_at = session.get_one(Job, old).created_at.replace(year=2020)
    assert _next(plane) == [urgent, old, young]


def test_a_project_runs_only_as_many_jobs_as_it_may(plane: Any) -> None:
    first = plane.submit("template")
    second = _queued(plane, "second")
    assert len(_next(plane)) == 1
    with plane.database.write() as session:
        transition(session, plane.audit, session.get_one(Job, first), JobState.STARTING, "")
    assert _next(plane) == []
    _allow(plane, 2)
    assert _next(plane) == [second]


def test_a_job_whose_former_processes_still_live_waits(plane: Any) -> None:
    job_id = plane.submit()
    with plane.database.write() as session:
        session.get_one(Job, job_id).submission_id = f"{job_id}-1"
    assert _next(plane) == []
    with plane.database.read() as session:
        assert waiting_projects(session) == ["census"]


def test_two_controllers_at_once_start_no_job_twice(plane: Any) -> None:
    for name in ("a", "b", "c"):
        _queued(plane, name)
    _allow(plane, 2)
    both = [plane.new_controller(), plane.new_controller()]
    threads = [threading.Thread(target=controller.tick) for controller in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with plane.database.read() as session:
        states = [job.state for job in session.query(Job)]
        attempts = [job.attempt for job in session.query(Job) if job.state == "starting"]
    assert sorted(states) == ["queued", "queued", "starting", "starting"]
    assert attempts == [1, 1]
    assert len(plane.ray.drivers) == 2
