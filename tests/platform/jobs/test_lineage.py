"""A re-run that is not identical gets fresh noise and pays for it; no job spends more than it declared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from secure_train.db.tables import BudgetCharge, Dataset, JobCheckpoint
from secure_train.jobs import Diverged, JobConflict, StaleWorker
from secure_train.jobs.lineage import final_step
from secure_train.wire.worker import CheckpointRefused

OTHER = "f" * 64


def _charged(plane: Any) -> int:
    with plane.database.read() as session:
        charges = session.scalars(select(BudgetCharge).where(BudgetCharge.kind == "training"))
        return sum(charge.last_step - charge.first_step for charge in charges)


def _refuse(plane: Any, processes: Any, step: int) -> None:
    with plane.database.read() as session:
        row = session.scalars(select(JobCheckpoint).where(JobCheckpoint.step == step)).one()
    plane.workers.checkpoint_refused(
        processes.token,
        CheckpointRefused(
            generation=processes.started.generation, manifest_id=row.manifest_id, reason="damaged"
        ),
    )


def _diverge_at_4(plane: Any) -> Any:
    """Steps 2 and 3 run twice and differ; the newest good checkpoint is that of step 2."""
    processes = plane.training(plane.submit())
    processes.train(0, 2)
    processes.train(2, 4)
    processes.fail()
    processes.start()
    _refuse(plane, processes, 4)
    processes.restore()
    processes.charge(2, 4)
    with pytest.raises(Diverged):
        processes.checkpoint(4, state_digest=OTHER)
    return processes


def test_another_value_for_the_same_step_begins_a_new_noise_epoch(plane: Any, events: Any) -> None:
    processes = _diverge_at_4(plane)
    job = plane.job(processes.job_id)
    assert (job.noise_epoch, job.noise_epoch_step) == (1, 2)
    (event,) = events(type="job.diverged")
    assert event.data["from_step"] == 2
    with plane.database.read() as session:
        digests = [row.state_digest for row in session.scalars(select(JobCheckpoint))]
    assert OTHER not in digests


def test_the_diverged_group_is_fenced_off_at_once(plane: Any) -> None:
    processes = _diverge_at_4(plane)
    with pytest.raises(StaleWorker):
        processes.charge(4, 6)


def test_repeated_steps_are_charged_anew_and_training_ends_earlier_instead_of_costing_more(
    plane: Any,
) -> None:
    processes = _diverge_at_4(plane)
    processes.fail()
    started = processes.start()
    assert (started.noise_epoch, started.final_step) == (1, 6)
    assert processes.restore() == 2
    processes.train(2, 4)
    processes.train(4, 6)
    assert _charged(plane) == 8
    with pytest.raises(JobConflict):
        processes.charge(6, 7)
    processes.publish()
    reservation = plane.reservation(processes.job_id)
    assert reservation.spent_epsilon <= 3.0
    assert plane.job(processes.job_id).state == "succeeded"


def test_a_checkpoint_lost_from_before_the_noise_epoch_forces_fresh_noise(plane: Any) -> None:
    processes = _diverge_at_4(plane)
    processes.fail()
    processes.start()
    with pytest.raises(Diverged):
        _refuse(plane, processes, 2)
    job = plane.job(processes.job_id)
    assert (job.noise_epoch, job.noise_epoch_step) == (2, 0)
    with plane.database.read() as session:
        assert final_step(session, job) == 4
    processes.start()
    assert processes.restore() == 0


def test_metrics_of_a_model_that_is_not_the_checkpoints_are_not_released(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    with pytest.raises(Diverged):
        processes.release(4, 0.2, state_digest=OTHER)
    assert plane.jobs.view(processes.job_id).metrics == {}
    assert plane.job(processes.job_id).noise_epoch == 1


def test_a_model_that_is_not_that_of_the_last_checkpoint_is_not_published(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 8)
    with pytest.raises(Diverged):
        processes.publish(state_digest=OTHER)
    assert plane.job(processes.job_id).state == "running"
    assert plane.jobs.view(processes.job_id).model is None


def test_a_model_is_not_published_before_the_last_step_or_without_its_checkpoint(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    with pytest.raises(JobConflict, match="not charged"):
        processes.publish()
    processes.charge(4, 8)
    with pytest.raises(JobConflict, match="no checkpoint"):
        processes.publish()


def test_a_job_that_dies_after_its_last_step_still_publishes(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 8)
    processes.fail()
    processes.start()
    assert processes.restore() == 8
    processes.publish()
    assert plane.job(processes.job_id).state == "succeeded"
    assert plane.jobs.detail(plane.actor("user:alice"), processes.job_id).recoveries[0].resumed_at is not None


def test_a_release_that_is_repeated_returns_what_was_stored_first(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    first = processes.release(4, 0.2, accuracy=0.81)
    spent = plane.reservation(processes.job_id).spent_epsilon
    again = processes.release(4, 0.2, accuracy=0.42)
    assert first.metrics == again.metrics == {"accuracy": 0.81}
    assert plane.reservation(processes.job_id).spent_epsilon == spent


def test_metrics_without_noise_are_refused_unless_the_owner_released_the_rows(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    with pytest.raises(JobConflict, match="has not released"):
        processes.release(4, 0.0)


def test_metrics_before_their_checkpoint_are_refused(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.charge(0, 4)
    with pytest.raises(JobConflict, match="has no checkpoint"):
        processes.release(4, 0.2)


def test_metrics_beyond_the_share_set_aside_are_refused(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    with pytest.raises(JobConflict, match="does not fit"):
        processes.release(4, 0.3)
    processes.train(4, 8)
    with pytest.raises(JobConflict, match="does not fit"):
        processes.release(8, 0.41)
    assert processes.release(8, 0.4).epsilon == 0.4


def test_metrics_that_are_no_finite_numbers_are_refused(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    for value in (float("nan"), "row 17: alice", [1.0]):
        with pytest.raises(JobConflict, match="finite number"):
            processes.release(4, 0.2, accuracy=value)


@pytest.mark.parametrize("name", ["x" * 65, "acc\x1b[2J"])
def test_metrics_whose_names_could_carry_records_are_refused(plane: Any, name: str) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 4)
    with pytest.raises(JobConflict, match="a name"):
        processes.release(4, 0.2, **{name: 0.5})


def test_after_divergence_used_up_the_share_metrics_stay_unreleased_and_training_goes_on(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 2)
    processes.train(2, 4)
    processes.release(4, 0.2)
    processes.fail()
    processes.start()
    _refuse(plane, processes, 4)
    processes.restore()
    with pytest.raises(Diverged):
        processes.checkpoint(4, state_digest=OTHER)
    processes.fail()
    processes.start()
    processes.restore()
    processes.train(2, 4)
    released = processes.release(4, 0.2)
    assert (released.metrics, released.epsilon) == ({}, 0.0)
    processes.train(4, 6)
    assert processes.release(6, 0.2).epsilon == 0.2


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(moves=st.lists(st.sampled_from(["step", "die", "diverge", "lose"]), min_size=1, max_size=10))
def test_whatever_dies_diverges_or_is_lost_no_more_is_spent_than_was_declared(
    plane: Any, moves: list[str]
) -> None:
    for old in plane.jobs.list(plane.actor("user:alice"), project=None, state=None, limit=500, after=None):
        if old.state not in {"succeeded", "failed", "cancelled"}:
            plane.jobs.cancel(plane.actor("user:alice"), old.id)
    plane.controller.tick()
    plane.controller.tick()
    with plane.database.write() as session:
        session.scalars(select(Dataset)).one().budget_epsilon = 900.0
    job_id = plane.submit(f"k{len(moves)}{moves}"[:100], recovery__maxFailures=50)
    processes = plane.training(job_id)
    step = 0
    for move in moves:
        if move == "step" and step < processes.started.final_step:
            processes.train(step, step + 1)
            step += 1
            continue
        try:
            if move == "diverge" and step > 0:
                processes.checkpoint(step, state_digest=OTHER)
            with plane.database.read() as session:
                good = select(JobCheckpoint).where(
                    JobCheckpoint.job_id == job_id, JobCheckpoint.state == "good"
                )
                newest = session.scalars(good.order_by(JobCheckpoint.step.desc())).first()
            if move == "lose" and newest is not None:
                plane.workers.checkpoint_refused(
                    processes.token,
                    CheckpointRefused(
                        generation=processes.started.generation, manifest_id=newest.manifest_id, reason="lost"
                    ),
                )
        except Diverged:
            pass
        processes.fail()
        processes.start()
        step = processes.restore()
    job, reservation = plane.job(job_id), plane.reservation(job_id)
    assert reservation.spent_epsilon <= reservation.epsilon
    with plane.database.read() as session:
        charges = session.scalars(select(BudgetCharge).where(BudgetCharge.job_id == job_id)).all()
        assert final_step(session, job) <= job.steps
    seen = [(row.noise_epoch, step) for row in charges for step in range(row.first_step, row.last_step)]
    assert len(seen) == len(set(seen)) <= job.steps
