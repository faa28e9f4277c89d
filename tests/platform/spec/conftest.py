"""The example files, and strategies for valid specifications as decoded JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def job_file() -> Path:
    return REPOSITORY / "examples" / "adult" / "job.yaml"


@pytest.fixture(scope="session")
def schema_file() -> Path:
    return REPOSITORY / "examples" / "adult" / "adult.schema.yaml"


@pytest.fixture(scope="session")
def job_text(job_file: Path) -> str:
    return job_file.read_text("utf-8")
