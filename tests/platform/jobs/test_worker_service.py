"""What a job's processes may do, and what is refused to those that another group or attempt has replaced."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from sqlalchemy import select

from secure_train.db.tables import (
    Dataset,
    DatasetVersion,
    JobCheckpoint,
    JobProgress,
    JobRelease,
    JobWorker,
    ModelVersion,
)
from secure_train.jobs import JobConflict, StaleWorker
from secure_train.policy import Denied, InvalidCapability
from secure_train.wire.worker import (
    Charge,
    CheckpointRefused,
    CommitCheckpoint,
    OpenDataset,
    ReportLog,
    Restore,
    Restored,
    StartGroup,
)


def _rows(plane: Any, table: Any) -> list[Any]:
    with plane.database.read() as session:
        return list(session.scalars(select(table)))


def test_a_job_runs_from_its_ticket_to_its_model(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    for first in (0, 2, 4, 6):
        processes.train(first, first + 2)
        if first + 2 == 4:
            processes.release(4, 0.2)
    processes.release(8, 0.2, accuracy=0.9)
    published = processes.publish()
    assert (published.model, published.version) == ("income", 1)
    detail = plane.jobs.detail(plane.actor("user:alice"), job_id)
    assert (detail.job.state, detail.job.model, detail.job.step) == ("succeeded", "income@1", 8)
    assert detail.job.metrics == {"accuracy": 0.9}
    assert [change.target for change in detail.transitions] == [
        "queued",
        "starting",
        "running",
        "succeeded",
    ]
    reservation = plane.reservation(job_id)
    assert reservation.state == "settled"
    assert reservation.spent_epsilon <= 3.0
    kinds = {event.type for event in events(subject=f"job:{job_id}")}
    assert kinds >= {
        "job.submitted",
        "ticket.redeemed",
        "capability.issued",
        "group.started",
        "checkpoint.restored",
        "checkpoint.written",
        "checkpoint.expired",
        "metrics.released",
        "job.succeeded",
    }
    assert len(events(type="model.published")) == 1


def test_the_published_statement_counts_what_was_really_charged(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 8)
    processes.release(8, 0.2)
    processes.publish()
    with plane.database.read() as session:
        statement = session.scalars(select(ModelVersion)).one().statement
    assert (statement["steps"], statement["workers"]) == (8, 1)
    assert statement["guarantee"]["total_epsilon"] <= 3.0
    assert [release["epsilon"] for release in statement["evaluations"]] == [0.2]


def test_every_request_of_a_worker_is_one_recorded_decision(plane: Any, decisions: Any) -> None:
    processes = plane.training(plane.submit())
    before = len(decisions())
    processes.charge(0, 2)
    processes.beat(2)
    processes.checkpoint(2)
    assert [row.action for row in decisions()[before:]] == ["model:train", "job:report", "checkpoint:write"]


def test_a_purpose_that_was_withdrawn_closes_the_dataset_to_a_running_job(plane: Any) -> None:
    processes = plane.training(plane.submit())
    grant = plane.workers.open_dataset(processes.token, OpenDataset(generation=1))
    assert len(base64.b64decode(grant.data_key)) == 32
    assert (grant.training_rows, grant.holdout_rows) == (160, 40)
    with plane.database.write() as session:
        session.scalars(select(Dataset)).one().purposes = ["research"]
    with pytest.raises(Denied):
        plane.workers.open_dataset(processes.token, OpenDataset(generation=1))


def test_a_forged_capability_opens_nothing(plane: Any) -> None:
    processes = plane.training(plane.submit())
    head, body, signature = processes.token.split(".")
    with pytest.raises(InvalidCapability):
        plane.workers.renew(f"{head}.{body}.{signature[::-1]}")


def test_a_renewed_capability_works_as_the_first_did(plane: Any) -> None:
    processes = plane.training(plane.submit())
    renewed = plane.workers.renew(processes.token)
    assert plane.workers.renew(renewed.token).attempt == 1


def test_everything_an_older_worker_group_asks_for_is_stale(plane: Any) -> None:
    old = plane.training(plane.submit())
    old.train(0, 2)
    old.fail()
    plane.workers.start_group(old.token, StartGroup(world_size=1))
    for request in (
        lambda: old.charge(2, 4),
        lambda: old.beat(3),
        lambda: old.checkpoint(2),
        lambda: old.release(2, 0.1),
        old.restore,
        lambda: plane.workers.open_dataset(old.token, OpenDataset(generation=1)),
    ):
        with pytest.raises(StaleWorker):
            request()


def test_a_group_of_another_size_is_refused(plane: Any) -> None:
    processes = plane.launched(plane.submit())
    with pytest.raises(JobConflict, match="asks for 1"):
        plane.workers.start_group(processes.token, StartGroup(world_size=2))


def test_announcing_a_group_again_after_a_lost_answer_is_no_death(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.launched(job_id)
    processes.start()
    processes.start()
    assert (plane.job(job_id).state, plane.job(job_id).generation) == ("running", 2)
    assert plane.jobs.view(job_id).recoveries == 0


def test_steps_are_charged_once_however_often_they_run(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.charge(0, 2)
    spent = plane.reservation(job_id).spent_epsilon
    processes.charge(0, 2)
    assert plane.reservation(job_id).spent_epsilon == spent > 0


@pytest.mark.parametrize(("first", "last"), [(0, 9), (2, 2), (3, 2), (2, 4)])
def test_steps_beyond_the_end_or_behind_a_gap_are_not_charged(plane: Any, first: int, last: int) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    with pytest.raises(JobConflict):
        processes.charge(first, last)
    assert plane.reservation(job_id).spent_epsilon == 0


def test_a_charge_of_another_noise_epoch_is_stale(plane: Any) -> None:
    processes = plane.training(plane.submit())
    with pytest.raises(StaleWorker, match="noise epoch"):
        plane.workers.charge(processes.token, Charge(generation=1, noise_epoch=1, first_step=0, last_step=2))


def test_a_checkpoint_of_steps_that_were_not_charged_is_refused(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.charge(0, 2)
    with pytest.raises(JobConflict, match="not charged"):
        processes.checkpoint(4)
    assert _rows(plane, JobCheckpoint) == []


def _commit(processes: Any, manifest_id: str, digest: str = "0" * 64) -> None:
    processes.workers.commit_checkpoint(
        processes.token,
        CommitCheckpoint(
            generation=1,
            noise_epoch=0,
            step=2,
            manifest_id=manifest_id,
            digest=digest,
            state_digest="0" * 64,
            logical_bytes=1,
            stored_bytes=1,
            seconds=0.0,
        ),
    )


def test_a_checkpoint_outside_the_jobs_own_folder_is_refused(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.charge(0, 2)
    with plane.database.read() as session:
        foreign = session.scalars(select(DatasetVersion)).one().manifest_id
    with pytest.raises(JobConflict, match="must begin with"):
        _commit(processes, foreign)


def test_a_checkpoint_whose_manifest_is_not_durable_is_refused(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 2)
    with pytest.raises(JobConflict, match="no manifest"):
        _commit(processes, f"{processes.job_id}/never-written")
    stored = _rows(plane, JobCheckpoint)[0].manifest_id
    with pytest.raises(JobConflict, match="cannot be recorded"):
        _commit(processes, stored, digest="f" * 64)


def test_committing_a_checkpoint_again_changes_nothing(plane: Any, events: Any) -> None:
    processes = plane.training(plane.submit())
    processes.charge(0, 2)
    assert processes.checkpoint(2) == processes.checkpoint(2)
    assert len(_rows(plane, JobCheckpoint)) == 1
    assert len(events(type="checkpoint.written")) == 1


def test_only_the_newest_checkpoints_are_kept(plane: Any, events: Any) -> None:
    processes = plane.training(plane.submit())
    for first in (0, 2, 4):
        processes.train(first, first + 2)
    states = {row.step: row.state for row in _rows(plane, JobCheckpoint)}
    assert states == {2: "expired", 4: "good", 6: "good"}
    assert [event.data["step"] for event in events(type="checkpoint.expired")] == [2]


def test_recovery_goes_on_from_the_newest_checkpoint_that_reads_well(plane: Any, events: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    processes.train(2, 4)
    processes.beat(5)
    processes.fail("worker 0 died: SIGKILL")
    assert plane.job(job_id).state == "recovering"
    processes.start()
    newest = next(row for row in _rows(plane, JobCheckpoint) if row.step == 4)
    plane.workers.checkpoint_refused(
        processes.token,
        CheckpointRefused(generation=2, manifest_id=newest.manifest_id, reason="block 0 of tensor weight"),
    )
    assert processes.restore() == 2
    assert plane.job(job_id).state == "recovering"
    processes.beat(2)
    assert plane.job(job_id).state == "recovering"
    processes.beat(3)
    assert plane.job(job_id).state == "running"
    (recovery,) = plane.jobs.detail(plane.actor("user:alice"), job_id).recoveries
    assert (recovery.last_step, recovery.restored_step, recovery.steps_repeated) == (5, 2, 3)
    assert recovery.seconds is not None
    (event,) = events(type="job.recovery")
    assert event.data["cause"] == "worker 0 died: SIGKILL"
    (refused,) = events(type="checkpoint.refused")
    assert refused.data["reason"] == "block 0 of tensor weight"


def test_an_identical_rerun_is_not_charged_and_replaces_a_refused_checkpoint(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    processes.train(2, 4)
    spent = plane.reservation(job_id).spent_epsilon
    processes.fail()
    processes.start()
    manifest = next(row.manifest_id for row in _rows(plane, JobCheckpoint) if row.step == 4)
    refused = CheckpointRefused(generation=2, manifest_id=manifest, reason="damaged")
    plane.workers.checkpoint_refused(processes.token, refused)
    processes.restore()
    processes.train(2, 4)
    assert plane.reservation(job_id).spent_epsilon == spent
    assert plane.job(job_id).noise_epoch == 0
    assert [row.state for row in _rows(plane, JobCheckpoint)] == ["good", "good"]


def test_a_death_nobody_reported_is_noticed_when_the_next_group_starts(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    processes.start()
    assert plane.job(job_id).state == "recovering"
    (recovery,) = plane.jobs.detail(plane.actor("user:alice"), job_id).recoveries
    assert recovery.cause == "the worker group was restarted"


def test_a_death_is_not_before_the_checkpoint_that_was_written_after_the_last_heartbeat(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    processes.charge(2, 4)
    processes.checkpoint(4)
    processes.fail("worker 1: its process died")
    (recovery,) = plane.jobs.detail(plane.actor("user:alice"), job_id).recoveries
    assert recovery.last_step == 4


def test_reporting_a_death_twice_counts_it_once(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.fail()
    processes.fail()
    assert plane.jobs.view(job_id).recoveries == 1


def test_a_permanent_failure_ends_the_job_without_another_try(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.fail("UnsupportedModel at model.py:3", permanent=True)
    job = plane.job(job_id)
    assert (job.state, job.reason) == ("failed", "UnsupportedModel at model.py:3")
    assert plane.reservation(job_id).state == "settled"
    with pytest.raises(InvalidCapability):
        processes.start()


def test_the_death_that_is_one_too_many_fails_the_job(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    for step in (1, 2):
        processes.beat(step)
        processes.fail()
        processes.start()
        processes.restore()
        processes.beat(step + 1)
    processes.fail("worker 0 died")
    assert plane.job(job_id).state == "failed"
    assert "worker 0 died" in plane.job(job_id).reason


def test_training_goes_on_only_from_a_good_checkpoint(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 2)
    with pytest.raises(JobConflict, match="cannot go on from step 1"):
        plane.workers.restored(processes.token, Restored(generation=1, step=1))


def test_progress_shows_public_figures_and_what_was_charged(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    processes.beat(2)
    (point,) = _rows(plane, JobProgress)
    assert (point.step, point.epsilon) == (2, plane.reservation(job_id).spent_epsilon)
    assert [row.rank for row in _rows(plane, JobWorker)] == [0]
    with pytest.raises(JobConflict):
        processes.beat(9)


def test_workers_write_only_lines_into_the_log(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    line = ReportLog(generation=1, source="worker 0", level="info", message="restored from step 0")
    plane.workers.report_log(processes.token, line)
    last = plane.jobs.logs(plane.actor("user:alice"), job_id, -1)[-1]
    assert (last.source, last.message) == ("worker 0", "restored from step 0")


def test_who_follows_a_job_sees_what_is_new_until_the_right_to_is_lost(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    with plane.database.read() as session:
        alice, outsider = plane.actor("user:alice"), plane.actor("user:outsider")
        update = plane.jobs.peek(session, alice, job_id, log_after=0, progress_after=-1)
        assert update.job.state == "running"
        assert update.logs[0].seq == 1
        assert plane.jobs.peek(session, outsider, job_id, log_after=-1, progress_after=-1) is None


def test_a_job_without_code_has_none_to_fetch(plane: Any) -> None:
    processes = plane.training(plane.submit())
    with pytest.raises(JobConflict, match="without code"):
        plane.workers.code(processes.token)


def test_a_job_gets_the_key_that_its_checkpoints_are_sealed_with(plane: Any) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 2)
    grant = plane.workers.restore(processes.token, Restore(generation=1))
    stored = plane.blocks.read(processes.key, grant.checkpoints[0].manifest_id)
    assert stored.meta["step"] == 2
    assert _rows(plane, JobRelease) == []
