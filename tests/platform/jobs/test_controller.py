"""The controller: killed between any two lines, it loses nothing and does nothing twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from secure_train.audit import CheckpointPolicy, verify_log
from secure_train.db import now
from secure_train.db.tables import Job, JobRecovery, JobTicket, Project
from secure_train.jobs import TicketRefused
from secure_train.jobs.controller import Controller, Timing
from secure_train.jobs.launcher import DriverStatus
from secure_train.policy import InvalidCapability
from secure_train.wire.worker import Redeem


class Killed(BaseException):
    """As kill -9 would: nothing catches it."""


def _recoveries(plane: Any, job_id: str) -> list[JobRecovery]:
    with plane.database.read() as session:
        return list(session.scalars(select(JobRecovery).where(JobRecovery.job_id == job_id)))


def test_a_queued_job_is_launched_once_with_its_own_ticket_and_no_secrets(plane: Any) -> None:
    job_id = plane.submit()
    plane.controller.tick()
    plane.controller.tick()
    assert plane.job(job_id).state == "starting"
    assert list(plane.ray.drivers) == [f"{job_id}-1"]
    assert plane.ray.tickets[f"{job_id}-1"].startswith("stt_")
    with plane.database.read() as session:
        assert len(session.scalars(select(JobTicket)).all()) == 1


def test_a_crash_after_committing_starting_and_before_ray_hears_of_it_launches_afterwards(
    plane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = plane.submit()

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(plane.ray, "status", killed)
        with pytest.raises(Killed):
            plane.controller.tick()
    assert (plane.job(job_id).state, plane.job(job_id).attempt) == ("starting", 1)
    assert plane.ray.drivers == {}
    plane.new_controller().tick()
    assert list(plane.ray.drivers) == [f"{job_id}-1"]
    assert _recoveries(plane, job_id) == []


def test_a_crash_between_the_ticket_and_the_submission_launches_with_a_fresh_ticket(
    plane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = plane.submit()

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(plane.ray, "submit", killed)
        with pytest.raises(Killed):
            plane.controller.tick()
    plane.new_controller().tick()
    order = plane.workers.redeem(Redeem(ticket=plane.ray.tickets[f"{job_id}-1"]))
    assert order.capability.attempt == 1


def test_a_submission_that_ray_took_though_the_answer_was_lost_is_adopted(plane: Any) -> None:
    job_id = plane.submit()
    plane.ray.lose_answer = True
    plane.controller.tick()
    plane.ray.lose_answer = False
    processes = plane.new_controller() and plane.launched(job_id)
    assert processes.order.capability.attempt == 1
    assert list(plane.ray.drivers) == [f"{job_id}-1"]


def test_a_submission_that_never_reached_ray_is_made_again(plane: Any) -> None:
    job_id = plane.submit()
    plane.ray.lose_request = True
    plane.controller.tick()
    plane.ray.lose_request = False
    plane.controller.tick()
    assert list(plane.ray.drivers) == [f"{job_id}-1"]
    assert _recoveries(plane, job_id) == []


def test_while_ray_does_not_answer_no_job_is_declared_dead(plane: Any) -> None:
    job_id = plane.submit()
    plane.training(job_id)
    plane.ray.down = True
    plane.controller.tick()
    plane.controller.tick()
    assert plane.job(job_id).state == "running"
    lines = plane.jobs.logs(plane.actor("user:alice"), job_id, -1)
    assert [line.message for line in lines].count("Ray does not answer") == 1


def test_a_running_job_is_adopted_after_a_restart_of_the_control_plane(plane: Any) -> None:
    job_id = plane.submit()
    plane.training(job_id).train(0, 2)
    with plane.database.write() as session:
        session.get_one(Job, job_id).heartbeat_at = now() - timedelta(hours=2)
    plane.new_controller().tick()
    assert (plane.job(job_id).state, plane.job(job_id).attempt) == ("running", 1)
    assert plane.ray.stopped == []


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (DriverStatus.FAILED, "the driver failed"),
        (DriverStatus.STOPPED, "the driver was stopped"),
        (DriverStatus.ENDED, "the driver ended without publishing a model"),
        (DriverStatus.UNKNOWN, "Ray has lost the driver"),
    ],
)
def test_a_dead_driver_is_replaced_and_its_capability_is_worth_nothing(
    plane: Any, status: DriverStatus, cause: str
) -> None:
    job_id = plane.submit()
    old = plane.training(job_id)
    old.train(0, 2)
    if status is DriverStatus.UNKNOWN:
        del plane.ray.drivers[f"{job_id}-1"]
    else:
        plane.ray.drivers[f"{job_id}-1"] = status
    plane.controller.tick()
    assert (plane.job(job_id).state, plane.job(job_id).attempt) == ("recovering", 2)
    assert [row.cause for row in _recoveries(plane, job_id)] == [cause]
    with pytest.raises(InvalidCapability, match="attempt 2"):
        old.charge(2, 4)
    assert plane.training(job_id).restore() == 2


def test_a_starting_driver_that_ray_forgot_is_not_taken_for_one_that_never_was(plane: Any) -> None:
    job_id = plane.submit()
    plane.launched(job_id)
    plane.ray.drivers.clear()
    plane.controller.tick()
    assert (plane.job(job_id).state, plane.job(job_id).attempt) == ("recovering", 2)


def test_a_silent_worker_is_stopped_before_it_is_declared_dead(plane: Any) -> None:
    job_id = plane.submit()
    plane.training(job_id).train(0, 2)
    plane.new_controller(Timing(heartbeat=timedelta(0))).tick()
    assert plane.ray.stopped == [f"{job_id}-1"]
    assert "silent" in _recoveries(plane, job_id)[0].cause
    assert plane.job(job_id).attempt == 2


def test_a_crash_after_stopping_a_silent_driver_still_recovers_the_job(
    plane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = plane.submit()
    plane.training(job_id).train(0, 2)
    stop = plane.ray.stop

    def stop_and_die(submission_id: str) -> None:
        stop(submission_id)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(plane.ray, "stop", stop_and_die)
        with pytest.raises(Killed):
            plane.new_controller(Timing(heartbeat=timedelta(0))).tick()
    assert plane.job(job_id).state == "running"
    plane.new_controller().tick()
    assert (plane.job(job_id).state, plane.job(job_id).attempt) == ("recovering", 2)


def test_a_job_that_keeps_dying_fails_with_its_last_cause_and_returns_its_budget(plane: Any) -> None:
    job_id = plane.submit()
    plane.launched(job_id)
    for attempt in (1, 2, 3):
        plane.ray.drivers[f"{job_id}-{attempt}"] = DriverStatus.FAILED
        plane.controller.tick()
        plane.controller.tick()
    job = plane.job(job_id)
    assert job.state == "failed"
    assert "the driver failed" in job.reason
    assert "2 restarts" in job.reason
    assert plane.reservation(job_id).state == "settled"


def test_cancelling_a_running_job_ends_its_processes_and_denies_them_at_once(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    plane.jobs.cancel(plane.actor("user:alice"), job_id)
    with pytest.raises(InvalidCapability):
        processes.charge(2, 4)
    plane.controller.tick()
    assert plane.ray.stopped == [f"{job_id}-1"]
    plane.controller.tick()
    assert plane.job(job_id).submission_id is None
    assert plane.reservation(job_id).spent_epsilon > 0


def test_cancelling_works_in_every_state_a_job_passes_through(plane: Any) -> None:
    alice = plane.actor("user:alice")
    reached = []
    for key, moves in enumerate((0, 1, 2, 3)):
        job_id = plane.submit(f"k{key}")
        if moves:
            processes = plane.launched(job_id)
        if moves >= 2:
            processes.start()
        if moves == 3:
            processes.fail()
        reached.append(plane.job(job_id).state)
        assert plane.jobs.cancel(alice, job_id).state == "cancelled"
        plane.controller.tick()
        plane.controller.tick()
    assert reached == ["queued", "starting", "running", "recovering"]


def test_a_ticket_of_a_job_cancelled_while_it_was_launched_is_worth_nothing(plane: Any) -> None:
    job_id = plane.submit()
    plane.controller.tick()
    plane.jobs.cancel(plane.actor("user:alice"), job_id)
    with pytest.raises(InvalidCapability):
        plane.workers.redeem(Redeem(ticket=plane.ray.tickets[f"{job_id}-1"]))


def test_a_resumed_job_waits_for_its_former_processes_and_goes_on_from_its_checkpoint(plane: Any) -> None:
    job_id = plane.submit()
    plane.training(job_id).train(0, 4)
    spent = plane.reservation(job_id).spent_epsilon
    alice = plane.actor("user:alice")
    plane.jobs.cancel(alice, job_id)
    plane.jobs.resume(alice, job_id)
    plane.controller.tick()
    assert plane.job(job_id).state == "queued"
    assert plane.ray.stopped == [f"{job_id}-1"]
    plane.controller.tick()
    processes = plane.launched(job_id)
    processes.start()
    assert processes.restore() == 4
    assert plane.reservation(job_id).spent_epsilon == spent


def test_trouble_with_one_job_does_not_keep_the_others_waiting(
    plane: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with plane.database.write() as session:
        session.get_one(Project, "census").max_running_jobs = 2
    bad, good = plane.submit("bad"), plane.submit("good")
    status = plane.ray.status

    def troubled(submission_id: str) -> DriverStatus:
        if submission_id.startswith(bad):
            raise KeyError("secret detail")
        return status(submission_id)

    monkeypatch.setattr(plane.ray, "status", troubled)
    plane.controller.tick()
    plane.controller.tick()
    assert list(plane.ray.drivers) == [f"{good}-1"]
    lines = [line.message for line in plane.jobs.logs(plane.actor("user:alice"), bad, -1)]
    assert lines.count("KeyError in the controller") == 1
    assert not any("secret detail" in line for line in lines)


def test_the_audit_log_is_signed_when_due_and_verifies(plane: Any, log: Any) -> None:
    plane.submit()
    controller = Controller(
        plane.database,
        plane.audit,
        plane.vault,
        plane.blocks,
        plane.ray,
        "http://control.invalid",
        plane.signer,
        CheckpointPolicy(1, 3600.0),
    )
    controller.tick()
    with plane.database.read() as session:
        latest = log.latest_checkpoint(session)
        assert latest is not None
        assert latest.size == log.size(session)
        verify_log(session, plane.signer.verifier)


def test_the_loop_ends_when_it_is_told_to(plane: Any) -> None:
    stop = threading.Event()
    controller = plane.new_controller(Timing(tick=0.01))
    thread = threading.Thread(target=controller.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_a_ticket_opens_once(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    plane.launched(job_id)
    with pytest.raises(TicketRefused, match="before"):
        plane.workers.redeem(Redeem(ticket=plane.ray.tickets[f"{job_id}-1"]))
    assert [event.data["reason"] for event in events(type="ticket.refused")] == [
        "the ticket was redeemed before"
    ]


def test_an_expired_ticket_and_one_of_an_older_attempt_are_refused(plane: Any) -> None:
    job_id = plane.submit()
    plane.controller.tick()
    ticket = plane.ray.tickets[f"{job_id}-1"]
    with plane.database.write() as session:
        session.scalars(select(JobTicket)).one().expires_at = now() - timedelta(seconds=1)
    with pytest.raises(TicketRefused, match="expired"):
        plane.workers.redeem(Redeem(ticket=ticket))
    with plane.database.write() as session:
        session.scalars(select(JobTicket)).one().expires_at = now() + timedelta(hours=1)
        session.get_one(Job, job_id).attempt = 2
    with pytest.raises(TicketRefused, match="attempt 1"):
        plane.workers.redeem(Redeem(ticket=ticket))
    with pytest.raises(TicketRefused, match="unknown"):
        plane.workers.redeem(Redeem(ticket="stt_forged"))


def test_a_ticket_is_stored_as_a_hash_only(plane: Any) -> None:
    job_id = plane.submit()
    plane.controller.tick()
    secret = plane.ray.tickets[f"{job_id}-1"]
    with plane.database.read() as session:
        assert secret.encode() not in session.scalars(select(JobTicket)).one().sha256
