"""What stands in a file's cells. Apart from `cells`, so that drafting a schema needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Cells = Sequence[str] | NDArray[np.float64]
"""A piece of a column: text as written, or numbers where the file format has them (NaN where missing)."""

_NUMBER = re.compile(r"[ \t]*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?[ \t]*", re.ASCII)


def parse_number(text: str) -> float | None:
    """Read a finite decimal number as people write it; None for anything else."""
    if _NUMBER.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    return None
