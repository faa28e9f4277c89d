"""The library's page is a program, and what it says about the result holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def test_the_code_of_the_library_page_runs_as_it_stands() -> None:
    torch.manual_seed(0)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102
    assert 2.9 < names["spent"] <= 3.0
    assert names["total"].max_grad_norm == 1.0
    assert len(names["total"].gradients) == 1
