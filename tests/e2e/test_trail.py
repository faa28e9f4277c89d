"""The audit trail of all that the tests before did: whole, signed, and verified without the control plane."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig import Stack, evidence

pytestmark = pytest.mark.slow


def test_the_trail_has_no_gap_and_verifies(stack: Stack, cli: Callable[..., Any]) -> None:
    verified = cli("user:admin", "audit", "verify", "-o", "json")
    assert verified.returncode == 0, verified.stderr
    found = evidence.events_of(stack)
    assert [event.seq for event in found] == list(range(len(found)))
    assert json.loads(verified.stdout)["data"]["events"] <= len(found)


def test_an_export_verifies_offline_and_one_that_was_altered_does_not(
    stack: Stack, cli: Callable[..., Any], tmp_path: Path
) -> None:
    target = tmp_path / "audit.jsonl"
    exported = cli("user:admin", "audit", "export", "--to", str(target))
    assert exported.returncode == 0, exported.stderr
    key = stack.cast.admin.audit_checkpoint().verifier_key
    verified = cli("user:admin", "audit", "verify", str(target), "--key", key, "-o", "json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["data"]["complete"] is True
    target.write_text(target.read_text().replace("user:erin", "user:eric", 1))
    refused = cli("user:admin", "audit", "verify", str(target), "--key", key)
    assert refused.returncode == 1
    assert "user:eric" not in refused.stdout
