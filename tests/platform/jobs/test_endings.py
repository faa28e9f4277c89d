"""Jobs that cannot go on end at once, say why, and give back what they did not spend."""

from __future__ import annotations

from typing import Any

import pytest

from secure_train import identity
from secure_train.db.tables import Job, Principal
from secure_train.jobs import Diverged, StaleWorker, TicketRefused
from secure_train.policy import Denied, InvalidCapability
from secure_train.wire.worker import Redeem

OTHER = "f" * 64


def _deactivate(plane: Any, name: str) -> None:
    with plane.database.write() as session:
        identity.update_principal(session, session.get_one(Principal, name), active=False)


def test_a_deactivated_submitters_job_fails_at_its_next_request_and_keeps_no_budget(
    plane: Any, decisions: Any
) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    spent = plane.reservation(job_id).spent_epsilon
    _deactivate(plane, "user:alice")
    before = len(decisions())
    with pytest.raises(Denied) as denied:
        processes.charge(2, 4)
    (decision,) = decisions()[before:]
    assert (decision.result, decision.reason) == ("deny", "submitter-inactive")
    assert decision.id == denied.value.decision.id
    job, reservation = plane.job(job_id), plane.reservation(job_id)
    assert job.state == "failed"
    assert job.reason == f"policy: model:train was denied: submitter-inactive (decision {decision.id})"
    assert (reservation.state, reservation.spent_epsilon) == ("settled", spent)
    with pytest.raises(InvalidCapability, match="failed"):
        processes.beat(2)
    plane.controller.tick()
    assert plane.ray.stopped == [f"{job_id}-1"]


def test_a_deactivated_submitters_queued_job_fails_before_it_gets_a_capability(
    plane: Any, decisions: Any
) -> None:
    job_id = plane.submit()
    _deactivate(plane, "user:alice")
    plane.controller.tick()
    ticket = Redeem(ticket=plane.ray.tickets[f"{job_id}-1"])
    before = len(decisions())
    with pytest.raises(Denied):
        plane.workers.redeem(ticket)
    assert [decision.reason for decision in decisions()[before:]] == ["submitter-inactive"]
    assert plane.job(job_id).state == "failed"
    assert plane.reservation(job_id).state == "settled"
    with pytest.raises((TicketRefused, InvalidCapability)):
        plane.workers.redeem(ticket)


def _lose_everything(plane: Any) -> tuple[str, Any]:
    """All steps are charged at once; then the state that they began with turns out to be another one."""
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.checkpoint(0)
    processes.charge(0, 8)
    with pytest.raises(Diverged):
        processes.checkpoint(0, OTHER)
    with plane.database.write() as session:
        # The checkpoint of step 0 is of no use to anybody: what it holds is where a job begins anyway.
        assert session.get_one(Job, job_id).noise_epoch == 1
    return job_id, processes


def test_a_job_that_lost_all_its_steps_fails_and_says_so_instead_of_recovering(plane: Any) -> None:
    job_id, processes = _lose_everything(plane)
    processes.fail()
    with pytest.raises(StaleWorker, match="nothing is left to train"):
        processes.start()
    job, reservation = plane.job(job_id), plane.reservation(job_id)
    assert job.state == "failed"
    assert job.reason.startswith("all 8 steps")
    assert (reservation.state, reservation.spent_epsilon > 0) == ("settled", True)


def test_resuming_such_a_job_fails_in_the_same_way_and_publishes_nothing(plane: Any) -> None:
    job_id, processes = _lose_everything(plane)
    processes.fail()
    with pytest.raises(StaleWorker):
        processes.start()
    plane.controller.tick()
    plane.controller.tick()
    plane.jobs.resume(plane.actor("user:alice"), job_id)
    again = plane.launched(job_id)
    with pytest.raises(StaleWorker, match="nothing is left to train"):
        again.start()
    assert plane.job(job_id).state == "failed"
