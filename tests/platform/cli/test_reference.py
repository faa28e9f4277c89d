"""The reference in the documentation."""

from __future__ import annotations

from pathlib import Path

from secure_train.cli.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_reference_is_that_of_the_commands() -> None:
    remedy = "run `python -m secure_train.cli.reference > docs/cli.md`"
    assert PAGE.read_text("utf-8") == reference(), remedy
