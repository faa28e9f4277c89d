"""The demo, as anybody runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cli_shell import Shell

from secure_train.audit import verify_export

pytestmark = pytest.mark.slow


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files. Its name is short: Ray puts sockets below it."""
    with TemporaryDirectory(prefix="d-") as folder:
        yield Path(folder)


def test_the_demo_shows_what_it_says(shell: Shell, temporary: Path) -> None:
    shell.environment["TMPDIR"] = str(temporary)
    answer = shell("demo", "-o", "json")
    assert answer.status == 0, answer.err
    data = answer.data
    (job,) = data["jobs"]
    assert job["state"] == "succeeded"
    assert job["accuracy"] >= 0.83
    assert job["epsilon"] <= 3.0
    assert job["recoveries"] == len(job["recovery_seconds"]) == 1
    assert data["denied"]["policies"] == ["purpose-not-allowed"]
    assert data["audit"]["verified"] is True
    exported = verify_export(data["export"])
    assert exported.complete
    assert exported.events == data["audit"]["events"]
    assert job["id"] in Path(data["report"]).read_text("utf-8")
    assert not list(temporary.glob("secure-train-demo-*"))
    assert not shell.config.exists()
