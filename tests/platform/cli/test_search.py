"""Searches from the command line, on a control plane without Ray: trials are accepted and wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_shell import EXAMPLES, Shell

SMALL = ("--set", "template.training.batchSize=128")


@pytest.fixture
def search_file(dataset: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "search.yaml"
    path.write_bytes((EXAMPLES / "adult" / "search.yaml").read_bytes())
    return path


def test_a_dry_run_shows_one_trial_and_all_and_submits_nothing(erin: Shell, search_file: Path) -> None:
    before = len(erin("search", "list", "-o", "json").data)
    told = erin("submit", search_file, *SMALL, "--dry-run")
    assert told.status == 0, told.err
    assert "ε 1 by itself" in told.out
    assert "4, all charged: ε 4 added up" in told.out
    plan = erin("submit", search_file, *SMALL, "--dry-run", "-o", "json").data
    assert [trial["epsilon"] for trial in plan["trials"]] == [1.0] * 4
    assert plan["budget_with_search_epsilon"] > plan["budget_used_epsilon"]
    assert len(erin("search", "list", "-o", "json").data) == before


def test_a_search_is_submitted_listed_shown_and_cancelled(erin: Shell, search_file: Path) -> None:
    submitted = erin("submit", search_file, *SMALL)
    assert submitted.status == 0, submitted.err
    search = submitted.out.strip()
    assert f"secure-train search show {search}" in submitted.err
    assert search in erin("search", "list").out
    shown = erin("search", "show", search)
    assert shown.out.count("learningRate") == 4
    waiting = erin("search", "wait", search, "--timeout", "1", "-o", "json")
    assert (waiting.status, waiting.error["code"]) == (5, "timed_out")
    assert erin("search", "cancel", search).out.split() == [search, "cancelled"]
    detail = erin("search", "show", search, "-o", "json").data
    assert {trial["state"] for trial in detail["trials"]} == {"cancelled"}
    assert detail["search"]["spent_epsilon"] == 0
    assert erin("search", "wait", search).status == 1


def test_a_search_over_budget_is_3_and_told_what_would_fit(erin: Shell, search_file: Path) -> None:
    much = [
        *SMALL,
        "--set",
        "search.trials=200",
        "--set",
        "search.parameters={training.seed: {low: 0, high: 999}}",
    ]
    planned = erin("submit", search_file, *much, "--dry-run")
    assert planned.status == 3
    assert "of the trials would fit" in planned.err
    denied = erin("submit", search_file, *much, "-o", "json")
    assert (denied.status, denied.error["code"]) == (3, "denied_by_budget")
    assert "of its trials would fit" in denied.error["message"]
    assert "denied" in erin("search", "list", "--state", "denied").out


def test_a_wrong_search_file_is_2_with_its_lines(erin: Shell, search_file: Path) -> None:
    search_file.write_text(search_file.read_text("utf-8").replace("maxGradNorm: {", "maxNorm: {"), "utf-8")
    answer = erin("spec", "validate", search_file)
    assert answer.status == 2
    assert "search.parameters.privacy.maxNorm (line " in answer.err
