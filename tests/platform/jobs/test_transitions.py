"""The state diagram, edge by edge."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from sqlalchemy import select

from secure_train.db.tables import Job, JobTransition
from secure_train.jobs import EDGES, TERMINAL, IllegalTransition, JobState, OutOfRestarts
from secure_train.jobs.transitions import restarts, transition

LEGAL = {(source, target) for source, targets in EDGES.items() for target in targets}


def test_the_diagram_is_the_documented_one() -> None:
    documented = {
        "submitted": "queued denied cancelled",
        "queued": "starting cancelled",
        "starting": "running recovering failed cancelled",
        "running": "recovering succeeded failed cancelled",
        "recovering": "recovering running failed cancelled",
        "failed": "queued",
        "cancelled": "queued",
        "succeeded": "",
        "denied": "",
    }
    assert {source: set(targets) for source, targets in EDGES.items()} == {
        source: set(targets.split()) for source, targets in documented.items()
    }


def test_every_state_that_is_not_an_end_can_be_cancelled() -> None:
    assert all(JobState.CANCELLED in EDGES[state] for state in JobState if state not in TERMINAL)


def test_every_edge_is_taken_or_refused_as_the_diagram_says(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    for source, target in product(JobState, JobState):
        with plane.database.write() as session:
            job = session.get_one(Job, job_id)
            job.state = source.value
            if (source, target) in LEGAL:
                transition(session, plane.audit, job, target, "why")
                assert job.state == target
                assert (job.finished_at is not None) == (target in TERMINAL)
            else:
                with pytest.raises(IllegalTransition, match=f"is {source} and cannot become {target}"):
                    transition(session, plane.audit, job, target, "why")
                assert job.state == source
            session.rollback()


def test_a_transition_leaves_history_and_an_audit_event(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    with plane.database.read() as session:
        rows = session.scalars(select(JobTransition).order_by(JobTransition.seq)).all()
        assert [(row.source, row.target) for row in rows] == [("submitted", "queued")]
    (event,) = events(type="job.queued")
    assert (event.actor, event.subject, event.data["from"]) == ("user:alice", f"job:{job_id}", "submitted")


def test_a_refused_transition_changes_nothing(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    before = len(events())

    def run_at_once() -> None:
        with plane.database.write() as session:
            transition(session, plane.audit, session.get_one(Job, job_id), JobState.RUNNING, "x")

    with pytest.raises(IllegalTransition):
        run_at_once()
    assert plane.job(job_id).state == "queued"
    assert len(events()) == before


def test_a_job_recovers_only_as_often_as_its_author_allowed_and_afresh_after_a_resume(plane: Any) -> None:
    job_id = plane.submit()
    with plane.database.write() as session:
        job = session.get_one(Job, job_id)
        transition(session, plane.audit, job, JobState.STARTING, "")
        for _ in range(2):
            transition(session, plane.audit, job, JobState.RECOVERING, "")
        with pytest.raises(OutOfRestarts, match="maxFailures"):
            transition(session, plane.audit, job, JobState.RECOVERING, "")
        transition(session, plane.audit, job, JobState.FAILED, "")
        assert restarts(session, job) == 2
        transition(session, plane.audit, job, JobState.QUEUED, "")
        assert restarts(session, job) == 0
