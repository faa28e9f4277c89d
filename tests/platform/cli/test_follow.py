"""Following a job through a stream that breaks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from secure_train.cli import follow
from secure_train.cli.follow import Follower, Lines, failure
from secure_train.client import ServerUnreachable
from secure_train.wire.jobs import JobView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB: dict[str, Any] = {
    "id": "job_1",
    "name": "income",
    "project": "census",
    "purpose": "statistics",
    "submitted_by": "user:erin",
    "state": "running",
    "phase": "training",
    "reason": "",
    "dataset": "adult",
    "dataset_version": 1,
    "priority": 0,
    "epsilon": 3.0,
    "delta": 1e-5,
    "spent_epsilon": 1.0,
    "spent_delta": 0.0,
    "noise_multiplier": 1.0,
    "sampling_rate": 0.1,
    "step": 10,
    "steps": 100,
    "attempt": 1,
    "recoveries": 0,
    "checkpoints": 1,
    "model": None,
    "metrics": {},
    "search": None,
    "created_at": NOW,
    "started_at": NOW,
    "finished_at": None,
}


def log(seq: int) -> tuple[str, dict[str, Any]]:
    return "log", {"seq": seq, "at": NOW, "source": "control", "level": "info", "message": f"line {seq}"}


def progress(seq: int, step: int) -> tuple[str, dict[str, Any]]:
    point = {"seq": seq, "noise_epoch": 0, "generation": 1, "step": step, "epsilon": 1.0, "at": NOW}
    return "progress", {**point, "steps_per_second": 2.0}


def release(step: int) -> tuple[str, dict[str, Any]]:
    return "release", {
        "step": step,
        "noise_epoch": 0,
        "metrics": {"accuracy": 0.8},
        "epsilon": 0.1,
        "at": NOW,
    }


class Breaking:
    """A control plane whose stream breaks once, and repeats itself afterwards, as the real one does."""

    def __init__(self) -> None:
        self.asked_after: list[int] = []

    def job(self, _: str) -> Any:
        return SimpleNamespace(job=JobView.model_validate(JOB))

    def follow(self, _: str, *, after: int) -> Iterator[tuple[str, dict[str, Any]]]:
        self.asked_after.append(after)
        yield progress(0, 10)
        yield release(10)
        if len(self.asked_after) == 1:
            yield log(0)
            raise ServerUnreachable("gone")
        yield log(1)
        yield progress(1, 20)
        yield "job", {**JOB, "state": "failed", "reason": "out of restarts"}


def test_a_broken_stream_is_taken_up_where_it_broke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "RECONNECT_SECONDS", 0.0)
    client = Breaking()
    ended = Follower(client, "job_1", Lines()).until_end()  # type: ignore[arg-type]  # the fault is injected
    assert client.asked_after == [-1, 0]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines))
    assert [line for line in lines if "line" in line] == [
        "00:00:00 control: line 0",
        "00:00:00 control: line 1",
    ]
    assert "lost the control plane; waiting for it to come back" in lines
    assert failure(ended) is not None


def test_each_phase_and_each_step_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    moment = 0.0
    lines = Lines(lambda: moment)
    starting = JobView.model_validate({**JOB, "state": "starting", "phase": "starting the workers"})
    running = JobView.model_validate(JOB)
    for _ in range(40):
        lines.job(starting)
        lines.waiting()
        moment += 1.0
    for epsilon in (1.0, 1.2):
        lines.job(running)
        lines.progress(10, 100, epsilon)
    assert capsys.readouterr().err.splitlines() == [
        "starting the workers",
        "starting the workers, for 15 s so far",
        "starting the workers, for 30 s so far",
        "training",
        "step 10/100  ε 1",
    ]


def test_a_job_that_succeeded_is_no_failure() -> None:
    assert failure(JobView.model_validate({**JOB, "state": "succeeded"})) is None
