"""What is deleted, and what never is."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select

from secure_train.db.tables import JobCheckpoint, ModelVersion
from secure_train.jobs.housekeeping import Housekeeper, Housekeeping
from secure_train.jobs.keys import job_key


def _housekeeper(plane: Any, **plan: Any) -> Housekeeper:
    return Housekeeper(plane.database, plane.vault, plane.blocks, Housekeeping(**plan))


def _stored(plane: Any, job_id: str) -> set[str]:
    return {entry.name for entry in plane.blocks.manifests(job_id)}


def _age(tmp_path: Path, days: float) -> None:
    """Make everything in the block store look so many days older."""
    for path in (tmp_path / "blocks").rglob("*"):
        if path.is_file():
            stamp = path.stat().st_mtime - days * 86400
            os.utime(path, (stamp, stamp))


def test_manifests_of_expired_checkpoints_go_and_good_ones_stay(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    for first in (0, 2, 4):
        processes.train(first, first + 2)
    _housekeeper(plane).sweep()
    with plane.database.read() as session:
        rows = session.scalars(select(JobCheckpoint)).all()
        good = {row.manifest_id for row in rows if row.state == "good"}
    assert _stored(plane, job_id) == good


def test_what_a_running_job_has_written_and_not_yet_recorded_stays_until_it_is_old(
    plane: Any, tmp_path: Path
) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    plane.blocks.write(
        processes.key, {"w": torch.ones(2)}, {}, manifest_id=f"{job_id}/under-way", kind="checkpoint"
    )
    _housekeeper(plane).sweep()
    assert f"{job_id}/under-way" in _stored(plane, job_id)
    _age(tmp_path, 2)
    _housekeeper(plane).sweep()
    assert f"{job_id}/under-way" not in _stored(plane, job_id)
    assert len(_stored(plane, job_id)) == 1


def test_a_failed_job_keeps_what_it_can_be_resumed_from(plane: Any) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 2)
    processes.fail("ValueError", permanent=True)
    _housekeeper(plane).sweep()
    assert len(_stored(plane, job_id)) == 1


def test_a_job_that_succeeded_leaves_nothing_but_its_published_model(plane: Any, tmp_path: Path) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    processes.train(0, 8)
    processes.publish()
    _age(tmp_path, 5)
    keeper = _housekeeper(plane)
    keeper.sweep()
    assert _stored(plane, job_id) == set()
    before = sum(1 for _ in (tmp_path / "blocks").rglob("*"))
    keeper.collect()
    assert sum(1 for _ in (tmp_path / "blocks").rglob("*")) < before
    assert plane.jobs.view(job_id).model == "income@1"
    with plane.database.read() as session:
        version = session.scalars(select(ModelVersion)).one()
    assert version.manifest_id in {entry.name for entry in plane.blocks.manifests("models")}


def test_code_of_a_submission_that_never_became_a_job_is_garbage_once_it_is_old(
    plane: Any, tmp_path: Path
) -> None:
    key = job_key(plane.vault, plane.job(plane.submit()))
    plane.blocks.write(key, {"w": torch.ones(2)}, {}, manifest_id="job_neverwas/code", kind="code")
    _housekeeper(plane).sweep()
    assert _stored(plane, "job_neverwas") == {"job_neverwas/code"}
    _age(tmp_path, 2)
    _housekeeper(plane).sweep()
    assert _stored(plane, "job_neverwas") == set()


def test_datasets_survive_every_sweep_and_collection(plane: Any, tmp_path: Path) -> None:
    processes = plane.training(plane.submit())
    processes.train(0, 2)
    _age(tmp_path, 9)
    keeper = _housekeeper(plane)
    keeper.sweep()
    keeper.collect()
    assert processes.restore() == 2
    assert list(plane.blocks.manifests("datasets"))


def test_manifests_that_nobody_here_knows_are_left_alone(plane: Any, tmp_path: Path) -> None:
    key = job_key(plane.vault, plane.job(plane.submit()))
    plane.blocks.write(key, {"w": torch.ones(2)}, {}, manifest_id="elsewhere/thing", kind="other")
    _age(tmp_path, 9)
    _housekeeper(plane).sweep()
    assert [entry.name for entry in plane.blocks.manifests("elsewhere")] == ["elsewhere/thing"]


@pytest.mark.parametrize(("sweep", "left"), [(0.0, 2), (3600.0, 3)])
def test_it_is_done_when_it_is_due(plane: Any, sweep: float, left: int) -> None:
    job_id = plane.submit()
    processes = plane.training(job_id)
    for first in (0, 2, 4):
        processes.train(first, first + 2)
    _housekeeper(plane, sweep=sweep, orphan=timedelta(days=1)).tick()
    assert len(_stored(plane, job_id)) == left
