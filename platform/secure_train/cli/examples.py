"""The examples that ship with the product."""

from __future__ import annotations

from pathlib import Path

from secure_train.cli.errors import CliError

_INSTALLED = Path(__file__).parent / "examples"
_CHECKOUT = Path(__file__).parents[3] / "examples"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def example(path: str) -> Path:
    """Return the file of an example; raises CliError if the installation lacks it."""
    found = FOLDER / path
    if not found.is_file():
        raise CliError(f"{found} is missing", "the installation is incomplete: install secure-train again")
    return found
