"""Which ε would fit: the largest that a job of a given shape could have and still be admitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from secure_train.dp import Mechanism
from secure_train.dp import epsilon as composed_epsilon
from secure_train.dp.composition import (
    DpEvent,
    PoissonGaussian,
    Pure,
    epsilon_of_curve,
    renyi_curve,
)
from secure_train.ledger.exact import exact, rounded_down, total
from secure_train.ledger.room import Limit, Room
from secure_train.ledger.rules import RdpFilter

_NOISE_RANGE = (0.05, 1e4)
_SMALLEST = Decimal("0.001")


@dataclass(frozen=True)
class Shape:
    """A job but for its noise.

    Attributes:
        sampling_rate, steps: q and T.
        delta: the job's own δ.
        evaluation_epsilon: pure ε set aside for noised metrics; stays as it is.
    """

    sampling_rate: float
    steps: int
    delta: float
    evaluation_epsilon: float

    def events(self, noise_multiplier: float) -> tuple[DpEvent, ...]:
        """All that a job of this shape may release at a σ."""
        training = PoissonGaussian(noise_multiplier, self.sampling_rate, self.steps)
        return (training, Pure(self.evaluation_epsilon)) if self.evaluation_epsilon else (training,)


def largest_epsilon(room: Room, shape: Shape, *, jobs: int = 1) -> float | None:
    """Return the largest privacy.epsilon that would be admitted now, or None. Takes up to a second.

    With more than one job: of each, so that all of them together are admitted.

    Rounded down to three digits, for a person to type. Calibrating to it gives a σ no smaller than the one
    that was found to fit, for ε falls as σ rises.
    """
    sums = [limit for limit in room.limits if not isinstance(limit.rule, RdpFilter)]
    if sums:
        fits = min(_left_by_sum(limit, shape, jobs) for limit in sums)
        return rounded_down(fits) if fits > exact(shape.evaluation_epsilon) else None
    bounds = [_added(limit) for limit in room.limits]
    noise = _least_noise(lambda sigma: all(bound(shape.events(sigma) * jobs) for bound in bounds))
    if noise is None:
        return None
    alone = composed_epsilon(Mechanism(noise, shape.sampling_rate, shape.steps), shape.delta)
    found = _three_digits(total([alone, shape.evaluation_epsilon]))
    return float(found) if found >= _SMALLEST and found > exact(shape.evaluation_epsilon) else None


def _left_by_sum(limit: Limit, shape: Shape, jobs: int) -> Decimal:
    left = limit.left()
    if total([shape.delta] * jobs) > left.delta:
        return Decimal(0)
    return left.epsilon if jobs == 1 else _three_digits(left.epsilon / jobs)


def _added(limit: Limit) -> Callable[[tuple[DpEvent, ...]], bool]:
    """Whether more events fit the limit; slightly stricter than the limit itself, and quicker."""
    before = renyi_curve(event for claim in limit.claims for event in claim.events)

    def fits(events: tuple[DpEvent, ...]) -> bool:
        after = tuple((a + b) * (1 + 1e-12) for a, b in zip(before, renyi_curve(events), strict=True))
        return epsilon_of_curve(after, limit.delta) <= limit.epsilon

    return fits


def _least_noise(fits: Callable[[float], bool]) -> float | None:
    low, high = _NOISE_RANGE
    if not fits(high):
        return None
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _three_digits(value: Decimal) -> Decimal:
    if value <= 0:
        return Decimal(0)
    return value.quantize(Decimal(1).scaleb(value.adjusted() - 2), ROUND_FLOOR)
