"""Requests that race each other over one job and its dataset."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from secure_train import ledger
from secure_train.audit import verify_log
from secure_train.db.tables import Dataset
from secure_train.jobs import JobConflict, StaleWorker
from secure_train.ledger import BudgetExceeded
from secure_train.policy import InvalidCapability


def test_racing_submissions_never_overspend_the_budget(plane: Any) -> None:
    plane.submit("warm")

    def submit(index: int) -> str | None:
        try:
            job_id: str = plane.submit(f"k{index}")
        except BudgetExceeded:
            return None
        return job_id

    with ThreadPoolExecutor(6) as pool:
        made = [job_id for job_id in pool.map(submit, range(6)) if job_id is not None]
    assert len(made) == 1
    with plane.database.read() as session:
        view = ledger.budget(session, session.scalars(select(Dataset)).one())
    assert [line.state for line in view.lines] == ["held", "held"]
    assert view.spent_epsilon + view.reserved_epsilon <= view.epsilon


def test_the_same_submission_sent_at_once_becomes_one_job(plane: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: plane.submit("same"), range(4)))) == 1


def test_cancelling_races_charges_heartbeats_and_the_controller_without_harm(plane: Any, log: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    alice = plane.actor("user:alice")

    def worker(request: Any) -> str:
        try:
            request()
        except (InvalidCapability, StaleWorker, JobConflict) as refused:
            return type(refused).__name__
        return "done"

    requests = [
        lambda: processes.charge(2, 4),
        lambda: processes.beat(3),
        lambda: processes.checkpoint(2),
        plane.controller.tick,
        lambda: plane.jobs.cancel(alice, job_id),
        lambda: processes.charge(4, 6),
        lambda: processes.beat(4),
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        outcomes = list(pool.map(worker, requests))
    assert outcomes[4] == "done"
    assert plane.job(job_id).state == "cancelled"
    spent = plane.reservation(job_id).spent_epsilon
    assert worker(lambda: processes.charge(6, 8)) == "InvalidCapability"
    assert plane.reservation(job_id).spent_epsilon == spent
    with plane.database.write() as session:
        log.checkpoint(session, plane.signer)
    with plane.database.read() as session:
        verify_log(session, plane.signer.verifier)
