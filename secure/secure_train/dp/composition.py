"""Many jobs on one dataset: typed events of spending, their Rényi curves, and one ε for all of them.

Adjacency: add or remove one record. The interaction is *fully adaptive*: which mechanism comes next, with
which σ and q, whether a job is stopped half-way, and whether its owner raises the budget, may all depend on
everything released so far. What is stated holds nevertheless, at all times at once:

    P( at some time t:  loss(t) > ε(t) ) <= δ
    ε(t) = min over α in ORDERS of  Σ ρ_i(α) + ln(1/(w_α δ)) / (α-1)

where ρ_i(α) is the Rényi divergence of order α that the i-th event was charged, and Σ w_α = 1.

Proof. Fix α. Under the dataset's own distribution, X_t = exp((α-1)(loss(t) - Σ_{i<=t} ρ_i(α))) is a
supermartingale with X_0 = 1: the i-th event's ρ_i(α) is known before it is drawn, and bounds the conditional
E[exp((α-1)·its loss)] (Feldman and Zrnic, NeurIPS 2021; Lécuyer 2021). By Ville's inequality
P(X_t >= 1/(w_α δ) for some t) <= w_α δ, that is, loss(t) exceeds Σρ_i(α) + ln(1/(w_α δ))/(α-1) at some time
with at most that probability. A union over the orders gives δ. ∎

So a filter that admits an event only while ε(t) stays within ε makes the whole interaction (ε, δ)-DP, and
raising ε later, even in the light of what was released, only moves the line: the bound on the loss is ε(t),
not the budget. δ and ORDERS must be fixed beforehand. Sharper conversions of Rényi DP (Canonne, Kamath and
Steinke 2020) bound the loss at one time only, and do not survive a budget that is raised adaptively.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from secure_train.dp.accounting import Mechanism
from secure_train.dp.adjacency import Adjacency
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import require_position

# Λ. Part of the guarantee of every dataset that was registered under it: another set of orders, or other
# weights, is another composition and needs a name of its own.
ORDERS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256, 512)
# Low orders pay for their share of δ most dearly, 1/(α-1) for each unit of ln(1/share): they get larger ones.
_RAW = [1 / (order - 1) for order in ORDERS]
WEIGHTS = tuple(raw / math.fsum(_RAW) * (1 - 1e-12) for raw in _RAW)
# Floating-point evaluation of a curve is exact to about 1e-12 (tests hold it against 60-digit arithmetic).
_ROUNDING = 1e-9

Curve: TypeAlias = tuple[float, ...]
"""Upper bounds on Rényi divergences, one for each of some orders."""


@dataclass(frozen=True)
class PoissonGaussian:
    """`steps` releases of a Poisson-sampled Gaussian sum: DP-SGD.

    Attributes:
        noise_multiplier: σ, noise standard deviation over the L2 sensitivity to one record.
        sampling_rate: q in (0, 1].
        steps: how many releases; 0 is nothing.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        Mechanism(self.noise_multiplier, self.sampling_rate, self.steps)


@dataclass(frozen=True)
class Pure:
    """`releases` releases, each of which is (`epsilon`, 0)-DP."""

    epsilon: float
    releases: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise InvalidParameterError(f"epsilon: must be 0 or more and finite, got {self.epsilon!r}")
        require_position(releases=self.releases)


DpEvent: TypeAlias = PoissonGaussian | Pure
"""Something that is charged as a whole. Its curve is linear in its count."""


def merged(events: Iterable[DpEvent]) -> tuple[DpEvent, ...]:
    """Add up the counts of like events, in order of first appearance; what counts nothing is left out."""
    counts: dict[DpEvent, int] = {}
    for event in events:
        unit, count = _split(event)
        counts[unit] = counts.get(unit, 0) + count
    return tuple(_times(unit, count) for unit, count in counts.items() if count)


def renyi_curve(events: Iterable[DpEvent], adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE) -> Curve:
    """Bound the Rényi divergence of all events together at each of ORDERS, rounded up.

    It never falls when events are added or their counts grow, and does not depend on their order.
    """
    parts = [(count, _unit_curve(unit, adjacency)) for unit, count in map(_split, merged(events))]
    return tuple(math.fsum(count * curve[at] for count, curve in parts) for at in range(len(ORDERS)))


def epsilon_of_curve(curve: Curve, delta: float) -> float:
    """ε(t) of the module's text for a curve over ORDERS, rounded up; 0 where nothing was spent."""
    if not 0 < delta < 1:
        raise InvalidParameterError(f"delta: must lie strictly between 0 and 1, got {delta!r}")
    if not any(curve):
        return 0.0
    bounds = (
        rho + math.log(1 / (weight * delta)) / (order - 1)
        for rho, weight, order in zip(curve, WEIGHTS, ORDERS, strict=True)
    )
    return min(bounds) * (1 + 1e-12)


def total_epsilon(
    events: Iterable[DpEvent], delta: float, adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE
) -> float:
    """The ε that holds at `delta` for all events together, however adaptively they were chosen or stopped."""
    return epsilon_of_curve(renyi_curve(events, adjacency), delta)


def _split(event: DpEvent) -> tuple[DpEvent, int]:
    if isinstance(event, Pure):
        return replace(event, releases=1), event.releases
    return replace(event, steps=1), event.steps


def _times(unit: DpEvent, count: int) -> DpEvent:
    return replace(unit, releases=count) if isinstance(unit, Pure) else replace(unit, steps=count)


@lru_cache(maxsize=16384)
def _unit_curve(unit: DpEvent, adjacency: Adjacency) -> Curve:
    if isinstance(unit, Pure):
        # To replace a record is to remove one and to add another.
        epsilon = unit.epsilon * (2 if adjacency is Adjacency.REPLACE_ONE else 1)
        exact = [_pure(epsilon, order) for order in ORDERS]
    elif adjacency is Adjacency.REPLACE_ONE:
        exact = [_gaussian_replace_one(unit, order) for order in ORDERS]
    else:
        exact = [_gaussian(unit, order) for order in ORDERS]
    return tuple(rho * (1 + _ROUNDING) for rho in exact)


def _gaussian(unit: PoissonGaussian, order: int) -> float:
    """Rényi divergence of one step at an integer order (Mironov, Talwar and Zhang 2019, section 3.3).

    (α-1) ρ = ln Σ_k C(α,k) q^k (1-q)^(α-k) exp(k(k-1)/2σ²). The binomial weights sum to 1, which is taken out
    of the sum, so that no digits cancel where the divergence is tiny. The direction that is computed, from
    the dataset with the record to the one without it, is the larger of the two (same paper, theorem 5).
    """
    sigma, rate = unit.noise_multiplier, unit.sampling_rate
    if rate == 1:
        return order / (2 * sigma**2)
    k = np.arange(2, order + 1, dtype=np.float64)
    growth = k * (k - 1) / (2 * sigma**2)
    terms = (
        _log_binomials(order)
        + k * math.log(rate)
        + (order - k) * math.log1p(-rate)
        + np.log(-np.expm1(-growth))
        + growth
    )
    return float(np.logaddexp(0.0, np.logaddexp.reduce(terms))) / (order - 1)


@lru_cache
def _log_binomials(order: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """ln C(order, k) for k = 2 … order."""
    return np.array([math.log(math.comb(order, k)) for k in range(2, order + 1)])


def _gaussian_replace_one(unit: PoissonGaussian, order: int) -> float:
    """Rényi divergence of one step where a record is replaced: its gradient C becomes -C (the worst case).

    Between the mixtures (1-q) N(0) + q N(±1), in units of C; both directions are the same. The integrand is
    analytic and falls like a Gaussian, so that the trapezoidal sum is as exact as the arithmetic.
    """
    sigma, rate = unit.noise_multiplier, unit.sampling_rate
    if rate == 1:
        return 2 * order / sigma**2
    cell = sigma / 32
    x = np.arange(-1 - 14 * sigma, 2 * order + 1 + 14 * sigma, cell)
    middle = math.log1p(-rate) - x**2 / (2 * sigma**2)
    with_record, without = (
        np.logaddexp(middle, math.log(rate) - (x - at) ** 2 / (2 * sigma**2)) for at in (1, -1)
    )
    log_integral = float(np.logaddexp.reduce(order * with_record - (order - 1) * without))
    log_integral += math.log(cell) - math.log(sigma) - math.log(2 * math.pi) / 2
    return (max(log_integral, 0.0) + 1e-12) / (order - 1)


def _pure(epsilon: float, order: int) -> float:
    """Largest Rényi divergence of order α that ε-DP allows: that of randomised response, which dominates it.

    Never above ε, nor above αε²/2 (Bun and Steinke 2016, proposition 3.3), to which rounding may not add.
    """
    if epsilon == 0:
        return 0.0
    # E[(p/p')^(α-1)] = 1 + (e^u - 1)(1 - e^(-αε)) / (1 + e^(-ε)) for u = (α-1)ε: no digits cancel.
    u = (order - 1) * epsilon
    log_expm1 = u + math.log(-math.expm1(-u))
    excess = log_expm1 + math.log(-math.expm1(-order * epsilon)) - math.log1p(math.exp(-epsilon))
    return min(float(np.logaddexp(0.0, excess)) / (order - 1), epsilon, order * epsilon**2 / 2)
