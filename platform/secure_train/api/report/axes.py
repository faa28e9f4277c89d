"""Scales and the round numbers along them."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Scale:
    """Maps values ``low`` … ``high`` linearly to positions ``start`` … ``end``.

    Raises:
        ValueError: the range of values is empty.
    """

    low: float
    high: float
    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(f"a scale needs a range of values, not {self.low:g} … {self.high:g}")

    def __call__(self, value: float) -> float:
        """Return the position of a value; one outside of the range is at its end."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def round_step(span: float, most: int) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that cuts ``span`` into at most ``most`` parts."""
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Return round numbers within the range, at most ``most`` + 1; ``whole``: integers only."""
    step = round_step(high - low, most)
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def decimals(marks: list[float]) -> int:
    """Return how many decimals tell these ticks apart."""
    if len(marks) < 2:
        return 2
    return max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))


def time_ticks(seconds: float, most: int = 6) -> list[float]:
    """Return round times from 0 to ``seconds``."""
    fitting = (float(step) for step in _SECONDS if step * most >= seconds)
    step = next(fitting, None) or 86400.0 * max(1.0, round_step(seconds / 86400, most))
    return [index * step for index in range(math.floor(seconds / step + 1e-9) + 1)]


def padded(low: float, high: float, floor: float, ceiling: float) -> tuple[float, float]:
    """Return a range that leaves air around values, within the bounds of what they can be."""
    air = max((high - low) * 0.08, abs(high) * 0.005, 1e-3)
    bottom, top = max(low - air, floor), min(high + air, ceiling)
    step = round_step(top - bottom, 5)
    return (
        max(math.floor(bottom / step + 1e-9) * step, floor),
        min(math.ceil(top / step - 1e-9) * step, ceiling),
    )
