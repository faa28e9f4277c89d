"""A search on a real stack: its trials train on Ray, each is charged, and the best is chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from rig import Stack, evidence, small_job

pytestmark = pytest.mark.slow


def test_a_search_of_two_trials_trains_both_charges_both_and_names_the_better(
    stack: Stack, cli: Callable[..., Any], job_file: Callable[[dict[str, Any]], str]
) -> None:
    job = small_job("searched", 20, privacy={"evaluation": {"epsilon": 0.5}})
    head = {name: job.pop(name) for name in ("apiVersion", "metadata")}
    parameters = {"training.optimizer.learningRate": {"choices": [0.0001, 0.05]}}
    search = {"sampler": "grid", "objective": "accuracy", "parameters": parameters}
    job.pop("kind")
    file = job_file({**head, "kind": "SearchJob", "template": job, "search": search})
    before = stack.client.budget(stack.dataset)
    done = cli("user:erin", "submit", file, "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["data"]
    assert (found["state"], found["ended_trials"]) == ("succeeded", 2)
    detail = stack.client.search(found["id"])
    assert [trial.state for trial in detail.trials] == ["succeeded"] * 2
    best = max(detail.trials, key=lambda trial: (trial.value or 0.0, -trial.number))
    assert found["best"]["number"] == best.number
    for trial in detail.trials:
        assert sorted(evidence.steps_charged(stack, trial.job).items()) == [
            ((0, step), 1) for step in range(20)
        ]
        assert 0 < trial.spent_epsilon <= trial.epsilon
    lines = {line.job_id: line for line in stack.client.budget(stack.dataset).lines}
    assert all(lines[trial.job].spent_epsilon == trial.spent_epsilon for trial in detail.trials)
    assert stack.client.budget(stack.dataset).spent_epsilon > before.spent_epsilon
    name, _, version = (best.model or "").partition("@")
    (published,) = [
        one for one in stack.client.model(f"census/{name}").versions if str(one.version) == version
    ]
    tuning = published.statement["tuning"]
    assert (tuning["search"], tuning["trials_charged"]) == (found["id"], 2)
