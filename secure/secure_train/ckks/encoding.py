"""Real numbers as integers at a scale of a power of two, and what that rounding may cost."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.packing import Integers

Reals = npt.NDArray[np.float64]


def to_integers(values: Reals, scale_bits: int) -> Integers:
    """Round values·2^scale_bits to the nearest integers. |error| <= 1/2 in units of 2^-scale_bits.

    Scaling by a power of two is exact, and so is rounding below 2^53.
    """
    return np.rint(np.ldexp(values, scale_bits)).astype(np.int64)


def to_reals(integers: Integers, scale_bits: int) -> Reals:
    """Undo `to_integers`; exact for |integers| <= 2^53."""
    return np.ldexp(integers.astype(np.float64), -scale_bits)


def rounding_error(scale_bits: int) -> float:
    """The most that `to_integers` changes a number."""
    return math.ldexp(0.5, -scale_bits)


def require_rows_within(name: str, rows: Reals, bound: float) -> None:
    """Check that rows are finite and their L2 norms within a public bound. Values are not part of messages.

    Raises:
        InvalidInput: names the first row that is not.
    """
    if rows.ndim != 2:
        raise InvalidInput(f"{name}: need a matrix, one record a row; got {rows.ndim} dimensions")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InvalidInput(
            f"{name}: row {int(np.argmin(finite))} is not finite; leave it out or set it to zero"
        )
    # The norm itself is rounded: a row scaled to exactly the bound may come out a little above.
    within = np.linalg.norm(rows, axis=1) <= bound * (1 + 1e-9)
    if not within.all():
        raise InvalidInput(
            f"{name}: row {int(np.argmin(within))} is longer than the public bound {bound:g}; scale rows"
        )


def require_values_within(name: str, values: Reals, bound: float) -> None:
    """Check that numbers are finite and within a public bound. Values are not part of messages.

    Raises:
        InvalidInput: names the first number that is not.
    """
    within = np.abs(values) <= bound
    if not within.all():
        where = tuple(int(i) for i in np.argwhere(~within)[0])
        raise InvalidInput(f"{name}: the number at {where} is not finite or beyond the bound {bound:g}")
