"""The DP statement of a model that was really trained, with the dataset's spending and an audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig import Stack, small_job

pytestmark = pytest.mark.slow


def test_a_statement_tells_spending_and_takes_an_audit_of_its_own_mechanism_only(
    stack: Stack, cli: Callable[..., Any], tmp_path: Path
) -> None:
    detail = stack.end_of(stack.submit(small_job("stated", 20)))
    assert detail.job.state == "succeeded", detail.job.reason
    model = f"{detail.job.project}/{detail.job.model}"
    read = cli("user:erin", "models", "statement", model, "-o", "json")
    assert read.returncode == 0, read.stderr
    statement = json.loads(read.stdout)["data"]
    assert statement["empirical_audit"] is None
    assert statement["dataset_spend"]["epsilon"] > 0
    assert statement["dataset_spend"]["jobs"] >= 1

    mechanism = {
        "--sigma": statement["noise_multiplier"],
        "--q": statement["sampling_rate"],
        "--steps": statement["steps"],
        "--delta": statement["guarantee"]["delta"],
        "--clip": statement["max_grad_norm"],
        "--workers": statement["workers"],
    }
    words = [str(word) for pair in mechanism.items() for word in pair]
    audit, page = tmp_path / "audit.json", tmp_path / "statement.html"
    done = cli("user:erin", "privacy", "audit", *words, "-o", "json")
    assert done.returncode == 0, done.stderr
    audit.write_text(done.stdout)
    told = cli(
        "user:erin", "models", "statement", model, "--audit", str(audit), "--html", str(page), "-o", "json"
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["data"]["empirical_audit"] == json.loads(done.stdout)["data"]
    assert "consistent with the claim" in page.read_text()

    other = json.loads(done.stdout)
    other["data"]["noise_multiplier"] *= 2
    audit.write_text(json.dumps(other))
    refused = cli("user:erin", "models", "statement", model, "--audit", str(audit))
    assert refused.returncode == 2
    assert "noise_multiplier" in refused.stderr
    assert "privacy audit --sigma" in refused.stderr
