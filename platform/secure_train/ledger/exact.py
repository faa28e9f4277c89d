"""Sums of privacy parameters without rounding.

A float counts as the decimal number it prints as: three jobs of ε = 0.1 fill a budget of 0.3 exactly, where
binary sums would say 0.30000000000000004. Where a sum becomes a float again, it is rounded to the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Context, Decimal, Inexact

# From the largest float (1.8e308) down to the last digit of the smallest (4.9e-324) are fewer digits.
_CONTEXT = Context(prec=700, traps=[Inexact])


def exact(value: float) -> Decimal:
    """Return the decimal number that a float prints as."""
    return Decimal(repr(float(value)))


def total(values: Iterable[float]) -> Decimal:
    """Add without rounding."""
    result = Decimal(0)
    for value in values:
        result = _CONTEXT.add(result, exact(value))
    return result


def difference(left: Decimal, right: Decimal) -> Decimal:
    """Subtract without rounding."""
    return _CONTEXT.subtract(left, right)


def rounded_up(value: Decimal) -> float:
    """Return the smallest float that is not below `value`."""
    result = float(value)
    return math.nextafter(result, math.inf) if exact(result) < value else result


def rounded_down(value: Decimal) -> float:
    """Return the largest float that is not above `value`."""
    result = float(value)
    return math.nextafter(result, -math.inf) if exact(result) > value else result
