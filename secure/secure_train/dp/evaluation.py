"""Metrics on private held-out rows, released through the discrete Laplace mechanism.

Sums are released, and divided afterwards by the number of held-out rows, which is public. The sensitivity of
a count is 1 and that of a sum of losses in [0, b] is b, under add-or-remove-one and under replace-one alike.
Sums are rounded to a public grid and noised as integers by OpenDP's exact sampler, so these guarantees are
pure ε and carry no floating-point caveat.

The noise is fresh operating-system randomness: evaluating again is a *new* release with a new price. Store a
released value durably before showing it, and return the stored one when the evaluation is asked for again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from secure_train.dp.errors import InvalidParameterError

# Grid cells per loss bound: a resolution far below any useful noise, coarse enough for 2^40 rows in 64 bits.
_LEVELS = 1 << 16
# Neighbouring sums differ by at most _LEVELS cells; one cell more for rounding to the grid and one for
# float64 summation, whose error is far below a cell.
_LOSS_SENSITIVITY = _LEVELS + 2
_MOST_ROWS = 1 << 40


@dataclass(frozen=True)
class NoisyMetrics:
    """A released evaluation. Safe to publish once its epsilon is charged.

    Attributes:
        accuracy: in [0, 1]; None if no count was asked for.
        loss: mean loss in [0, loss_bound].
        epsilon: pure ε of the whole release, for adding, removing or replacing one held-out record.
        rows: public number of held-out rows, the denominator.
        loss_bound: public bound of a record's loss.
        accuracy_scale: scale of the discrete Laplace noise in units of accuracy; None without accuracy.
        loss_scale: scale of the discrete Laplace noise in units of mean loss.
    """

    accuracy: float | None
    loss: float
    epsilon: float
    rows: int
    loss_bound: float
    accuracy_scale: float | None
    loss_scale: float


@dataclass(frozen=True)
class EvaluationPlan:
    """Splits an evaluation budget: half to the final evaluation, the rest evenly over the intermediate ones.

    With no intermediate point the final evaluation gets everything. The parts, summed exactly as the
    rationals that the floats are, never exceed the total.

    Attributes:
        total_epsilon: the budget.
        points: the number of intermediate evaluations.

    Raises:
        InvalidParameterError: a parameter is out of range.
    """

    total_epsilon: float
    points: int

    def __post_init__(self) -> None:
        _require_epsilon("total_epsilon", self.total_epsilon)
        if self.points < 0:
            raise InvalidParameterError(f"points: must be at least 0, got {self.points}")

    @property
    def intermediate(self) -> float:
        """ε of each intermediate evaluation; 0 if there are none."""
        return _rounded_down(Fraction(self.total_epsilon) / 2 / self.points) if self.points else 0.0

    @property
    def final(self) -> float:
        """ε of the final evaluation."""
        return _rounded_down(Fraction(self.total_epsilon) - self.points * Fraction(self.intermediate))


def noisy_count(count: int, epsilon: float) -> int:
    """A count plus discrete Laplace noise of scale 1/ε (or the next larger float). May be negative.

    Sensitivity 1 under add-or-remove-one and replace-one; pure ε.

    Raises:
        InvalidParameterError: epsilon is not positive and finite.
    """
    return _discrete_laplace(count, 1, epsilon)[0]


def bounded_sum(values: Tensor, bound: float) -> float:
    """Sums per-record values, each forced into [0, bound], in float64. NaN counts as the bound.

    Sums of several workers may be added up. Private until noised.

    Raises:
        InvalidParameterError: the bound is not positive and finite.
    """
    _require_bound(bound)
    limited = torch.nan_to_num(values.detach().double(), nan=bound, posinf=bound, neginf=0.0)
    return float(limited.clamp(0, bound).sum())


def evaluate_private(
    correct: int | None, loss_sum: float, epsilon: float, *, rows: int, loss_bound: float
) -> NoisyMetrics:
    """Releases accuracy and mean loss over private held-out rows.

    With `correct`, half of ε goes to the count and half to the loss; without it (regression, where the loss
    may be the absolute error clipped to a public bound) all of it goes to the loss. Results are clamped to
    their ranges, which is post-processing.

    Args:
        correct: how many of the rows were predicted correctly, or None.
        loss_sum: the sum of losses in [0, loss_bound], from `bounded_sum`.
        epsilon: the price of this release, to be charged before the result is used.
        rows: the public number of held-out rows.
        loss_bound: public, chosen without looking at the data.

    Raises:
        InvalidParameterError: a parameter is out of range.
    """
    _require_epsilon("epsilon", epsilon)
    _require_bound(loss_bound)
    if not 1 <= rows <= _MOST_ROWS:
        raise InvalidParameterError(f"rows: must lie between 1 and 2^40, got {rows}")
    if correct is not None and not 0 <= correct <= rows:
        raise InvalidParameterError("correct: must lie between 0 and the number of rows")
    # The sums' values are private: they are not part of the messages.
    if not 0 <= loss_sum <= rows * loss_bound * (1 + 1e-9):
        raise InvalidParameterError("loss_sum: must lie between 0 and rows x loss_bound; use bounded_sum")
    part = epsilon if correct is None else epsilon / 2
    cell = loss_bound / _LEVELS
    noisy_loss, loss_scale = _discrete_laplace(round(loss_sum / cell), _LOSS_SENSITIVITY, part)
    accuracy, accuracy_scale = None, None
    if correct is not None:
        count, count_scale = _discrete_laplace(correct, 1, part)
        accuracy, accuracy_scale = min(max(count / rows, 0.0), 1.0), count_scale / rows
    return NoisyMetrics(
        accuracy=accuracy,
        loss=min(max(noisy_loss * cell / rows, 0.0), loss_bound),
        epsilon=epsilon,
        rows=rows,
        loss_bound=loss_bound,
        accuracy_scale=accuracy_scale,
        loss_scale=loss_scale * cell / rows,
    )


def _discrete_laplace(value: int, sensitivity: int, epsilon: float) -> tuple[int, float]:
    """(noised value, scale); the mechanism's ε is confirmed by OpenDP's own conservative arithmetic."""
    # Half a second, which only the one worker that releases metrics should pay.
    import opendp.prelude as opendp

    _require_epsilon("epsilon", epsilon)
    opendp.enable_features("contrib")
    scale = sensitivity / epsilon
    while True:
        mechanism: Any = opendp.m.make_laplace(
            opendp.atom_domain(T="i64"), opendp.absolute_distance(T="i64"), scale=scale
        )
        if mechanism.map(sensitivity) <= epsilon:
            return int(mechanism(value)), scale
        # Division rounded the wrong way: the next float up costs less.
        scale = math.nextafter(scale, math.inf)


def _require_epsilon(name: str, epsilon: float) -> None:
    # Below the lower end the noise would leave 64-bit integers.
    if not 1e-9 <= epsilon < math.inf:
        raise InvalidParameterError(f"{name}: must be at least 1e-9 and finite, got {epsilon!r}")


def _require_bound(bound: float) -> None:
    if not (math.isfinite(bound) and bound > 0):
        raise InvalidParameterError(f"loss_bound: must be positive and finite, got {bound!r}")


def _rounded_down(exact: Fraction) -> float:
    nearest = float(exact)
    return nearest if Fraction(nearest) <= exact else math.nextafter(nearest, 0.0)
