"""Jobs as people meet them: their own model, one that cannot be trained privately, a denial, a cancel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig import Stack, evidence, small_job
from secure_train.cli.examples import example
from secure_train.dp.composition import total_epsilon
from secure_train.ledger.events import event_from_json
from secure_train.spec import pack
from secure_train.wire.data import BudgetLine, BudgetView

pytestmark = pytest.mark.slow
STEPS = 120
BATCH_NORM = """
from torch import nn

def build(in_features, out_features):
    return nn.Sequential(nn.Linear(in_features, 8), nn.BatchNorm1d(8), nn.Linear(8, out_features))
"""


def budget(stack: Stack) -> BudgetView:
    return stack.client.budget(stack.dataset)


def left_by_its_lines(view: BudgetView) -> float:
    """What all jobs leave, composed anew: held ones count what they hold, others what they spent."""
    events = [
        event_from_json(event.model_dump())
        for line in view.lines
        for event in (line.events if line.state == "held" else line.spent_events)
    ]
    return view.epsilon - total_epsilon(events, view.delta)


def line_of(view: BudgetView, job: str) -> BudgetLine:
    (found,) = [line for line in view.lines if line.job_id == job]
    return found


def test_a_cancelled_job_returns_what_it_did_not_spend_and_can_be_resumed_to_its_end(stack: Stack) -> None:
    before = budget(stack)
    job = stack.submit(small_job("cancel", STEPS))
    running = stack.wait_for(job, lambda detail: detail.job.checkpoints >= 2)
    held = budget(stack)
    assert line_of(held, job).state == "held"
    assert line_of(held, job).epsilon == running.job.epsilon
    assert held.available_epsilon == pytest.approx(left_by_its_lines(held), abs=1e-9)
    assert held.available_epsilon < before.available_epsilon
    stack.client.cancel(job)
    cancelled = stack.end_of(job)
    assert cancelled.job.state == "cancelled"
    assert 0 < cancelled.job.spent_epsilon < cancelled.job.epsilon
    returned = budget(stack)
    assert line_of(returned, job).state == "settled"
    assert line_of(returned, job).spent_epsilon == cancelled.job.spent_epsilon
    assert returned.available_epsilon == pytest.approx(left_by_its_lines(returned), abs=1e-9)
    assert held.available_epsilon < returned.available_epsilon < before.available_epsilon
    stack.client.resume(job)
    detail = stack.end_of(job)
    assert detail.job.state == "succeeded", detail.job.reason
    restored = [
        event.data["step"]
        for event in evidence.events_about(stack, job)
        if event.type == "checkpoint.restored"
    ]
    assert restored[-1] >= 20
    evidence.require_charged_once(stack, detail)
    evidence.require_same_values(stack, job)
    after = budget(stack)
    assert line_of(after, job).spent_epsilon == detail.job.spent_epsilon
    assert after.available_epsilon == pytest.approx(left_by_its_lines(after), abs=1e-9)
    assert after.available_epsilon < returned.available_epsilon


def test_a_model_of_ones_own_is_trained_from_its_working_directory(
    stack: Stack, cli: Callable[..., Any]
) -> None:
    file = str(example("custom-model/job.yaml"))
    fewer = ["--set", "training.epochs=2", "--set", "resources.workers=1"]
    done = cli("user:erin", "submit", file, *fewer, "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)["data"]
    assert (job["state"], job["model"]) == ("succeeded", "income-custom@1")
    detail = stack.job(job["id"])
    assert detail.code_digest is not None
    evidence.require_same_values(stack, job["id"])
    (release,) = detail.releases
    assert release.epsilon == pytest.approx(0.4)
    assert job["spent_epsilon"] <= job["epsilon"]


def test_a_model_that_mixes_records_is_refused_at_once_and_costs_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text(BATCH_NORM)
    model = {"kind": "entrypoint", "entrypoint": "model:build", "workingDir": "."}
    job = stack.submit(small_job("mixing", STEPS, model=model), workdir=pack(tmp_path).data)
    detail = stack.end_of(job)
    assert detail.job.state == "failed"
    assert "BatchNorm1d" in detail.job.reason
    assert (detail.job.attempt, detail.recoveries, detail.checkpoints) == (1, [], [])
    assert detail.job.spent_epsilon == 0
    assert not evidence.steps_charged(stack, job)


def test_a_denied_submission_exits_with_3_and_reserves_nothing(
    stack: Stack,
    cli: Callable[..., Any],
    job_file: Callable[[dict[str, Any]], str],
) -> None:
    before = budget(stack)
    file = job_file(small_job("denied", STEPS))
    denied = cli("user:erin", "submit", file, "--set", "metadata.purpose=credit-scoring", "-o", "json")
    assert denied.returncode == 3, denied.stderr
    assert json.loads(denied.stdout)["error"]["code"] == "denied_by_policy"
    after = budget(stack)
    assert (after.reserved_epsilon, after.spent_epsilon) == (before.reserved_epsilon, before.spent_epsilon)
    assert [job.name for job in stack.client.jobs(state="denied")] == ["denied"]
