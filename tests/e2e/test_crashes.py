"""kill -9 of every process that a job needs, while it trains: nothing is lost, nothing is charged twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rig import Stack, evidence, processes, small_job
from rig.damage import flip_bit_of_newest_checkpoint

pytestmark = pytest.mark.slow
STEPS = 120


def trains(stack: Stack, job: str) -> None:
    """Wait until there is something to recover from, and something left to lose."""
    stack.wait_for(job, lambda detail: detail.job.checkpoints >= 2 and bool(detail.workers))


def ends_as_if_nothing_had_happened(stack: Stack, job: str, deaths: int) -> None:
    detail = stack.end_of(job)
    assert detail.job.state == "succeeded", detail.job.reason
    assert detail.job.step == STEPS
    evidence.require_recovered(detail, deaths)
    evidence.require_charged_once(stack, detail)
    evidence.require_same_values(stack, job)


def test_a_killed_worker_costs_neither_privacy_nor_more_than_the_steps_since_the_last_checkpoint(
    stack: Stack,
) -> None:
    job = stack.submit(small_job("worker", STEPS, resources={"workers": 2}))
    trains(stack, job)
    stack.kill_worker(job, 1)
    ends_as_if_nothing_had_happened(stack, job, deaths=1)
    detail = stack.job(job)
    (recovery,) = detail.recoveries
    assert recovery.cause == "worker 1: its process died"
    assert recovery.restored_step is not None
    assert recovery.restored_step >= 20
    assert detail.job.attempt == 1
    (event,) = [event for event in evidence.events_about(stack, job) if event.type == "job.recovery"]
    assert event.data == {
        "cause": recovery.cause,
        "last_step": recovery.last_step,
        "restored_step": recovery.restored_step,
        "steps_repeated": recovery.steps_repeated,
        "seconds": recovery.seconds,
    }


def test_a_killed_driver_is_followed_by_another_attempt(stack: Stack) -> None:
    job = stack.submit(small_job("driver", STEPS))
    trains(stack, job)
    stack.kill_driver()
    ends_as_if_nothing_had_happened(stack, job, deaths=1)
    detail = stack.job(job)
    assert [recovery.cause for recovery in detail.recoveries] == ["the driver failed"]
    assert detail.job.attempt == 2


def test_training_and_those_who_follow_it_outlast_a_killed_control_plane(
    stack: Stack,
    environment: Callable[[str], dict[str, str]],
    job_file: Callable[[dict[str, Any]], str],
) -> None:
    command = [sys.executable, "-m", "secure_train.cli", "submit", job_file(small_job("control", STEPS))]
    with subprocess.Popen(
        [*command, "--follow"],
        env=environment("user:erin"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        job = follower.stdout.readline().strip()
        trains(stack, job)
        kept = stack.cast.admin.audit_checkpoint().note
        acknowledged = evidence.events_about(stack, job)
        checkpoints = stack.job(job).checkpoints
        stack.kill_control_plane()
        stack.bring_up()
        _, told = follower.communicate()
    assert follower.returncode == 0, told
    assert "lost the control plane; waiting for it to come back" in told
    ends_as_if_nothing_had_happened(stack, job, deaths=0)
    detail = stack.job(job)
    assert (detail.job.attempt, detail.recoveries) == (1, [])
    assert evidence.events_about(stack, job)[: len(acknowledged)] == acknowledged
    assert {one.digest for one in checkpoints} <= {one.digest for one in detail.checkpoints}
    assert stack.cast.admin.verify_audit(kept).verified


def test_a_job_recovers_when_its_driver_dies_while_nobody_watches(stack: Stack) -> None:
    job = stack.submit(small_job("both", STEPS))
    trains(stack, job)
    stack.kill_control_plane()
    stack.kill_driver()
    stack.bring_up()
    ends_as_if_nothing_had_happened(stack, job, deaths=1)
    assert stack.job(job).job.attempt == 2


def test_a_checkpoint_with_a_flipped_bit_is_refused_by_name_and_the_one_before_is_used(stack: Stack) -> None:
    job = stack.submit(small_job("bit", STEPS))
    trains(stack, job)
    (worker,) = stack.job(job).workers
    # Stopped first, so that no newer checkpoint comes in between.
    processes.pause(worker.pid)
    good = [one.step for one in stack.job(job).checkpoints if one.state == "good"]
    damaged = flip_bit_of_newest_checkpoint(stack, job)
    processes.kill(worker.pid)
    ends_as_if_nothing_had_happened(stack, job, deaths=1)
    (refused,) = [event for event in evidence.events_about(stack, job) if event.type == "checkpoint.refused"]
    assert refused.data["step"] == damaged.step == max(good)
    assert refused.data["reason"].startswith(f"block 0 of tensor {damaged.tensor!r}: ")
    (recovery,) = stack.job(job).recoveries
    assert recovery.restored_step == sorted(good)[-2]
    # The step of the refused checkpoint was run again: `require_same_values` has compared the two.
    written = [
        event.data for event in evidence.events_about(stack, job) if event.type == "checkpoint.written"
    ]
    assert [data["step"] for data in written].count(damaged.step) == 2
