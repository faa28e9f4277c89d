"""A real stack for all end-to-end tests: control plane and Ray as processes, on SQLite, in their own home."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig import Stack, throw_away_stack

ROWS = 3_000

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One stack for the whole session; that no process outlives it is checked at its end."""
    with throw_away_stack(ROWS, logging.getLogger(__name__).info) as running:
        yield running


@pytest.fixture
def environment(stack: Stack, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Call it with a person's id for the environment of a command line logged in as that person."""

    def of(person: str) -> dict[str, str]:
        return {
            **os.environ,
            "SECURE_TRAIN_URL": stack.url,
            "SECURE_TRAIN_TOKEN": stack.cast.tokens[person],
            "SECURE_TRAIN_CONFIG": str(tmp_path),
        }

    return of


@pytest.fixture
def cli(environment: Callable[[str], dict[str, str]]) -> Cli:
    """Run `secure-train …` as a person, to its end."""

    def run(person: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "secure_train.cli", *arguments],
            env=environment(person),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def job_file(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Write a job.yaml (JSON is YAML) and return its path."""

    def write(spec: dict[str, Any]) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(json.dumps(spec))
        return str(path)

    return write
