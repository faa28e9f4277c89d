"""The stack on this machine, with a real Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    assert shell("down").status == 0


def test_up_adopts_what_runs_and_starts_what_does_not(machine: Shell) -> None:
    first = machine("up", "-o", "json").data
    assert first["admin_token"].startswith("st_")
    assert machine("people", "list", "-o", "json").data[0]["id"] == "user:admin"
    assert machine("status", "-o", "json").data["control_plane"]["answers"] is True
    second = machine("up", "-o", "json").data
    assert second == {**first, "admin_token": None}
    os.kill(first["pid"], signal.SIGKILL)
    dead = machine("status", "-o", "json")
    assert dead.status == 1
    assert dead.json["data"]["control_plane"]["pid"] is None
    third = machine("up", "-o", "json").data
    assert (third["url"], third["ray"]) == (first["url"], first["ray"])
    assert third["pid"] != first["pid"]
    assert machine("people", "list").status == 0
    assert machine("doctor", "-o", "json").data
    assert machine("down").status == 0
    stopped = machine("status", "-o", "json")
    assert stopped.status == 1
    assert stopped.json["data"]["ray"] == {"address": None}
