"""From (noise, sampling, steps) to epsilon and back, by privacy loss distributions.

The authority is dp-accounting's PLD accountant with pessimistic discretisation ("connect the dots",
Doroshenko et al., PoPETs 2022): whatever the grid, its epsilon is an upper bound, and a finer grid only
tightens it. Opacus' PRV accountant (Gopi et al., NeurIPS 2021) and RDP accountant (Mironov et al., 2019) are
independent implementations that must agree with it.

Both libraries take seconds to import (SciPy), which a training worker, who never computes an epsilon, would
pay at every recovery: they are imported where they are used.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from secure_train.dp.adjacency import Adjacency
from secure_train.dp.errors import AccountingDisagreement, InvalidParameterError
from secure_train.dp.keyed import require_position

if TYPE_CHECKING:
    import dp_accounting
    from opacus.accountants import PRVAccountant, RDPAccountant

# Grid cells per unit of (estimated) epsilon. Measured against much finer grids: epsilon is at most 0.5 % too
# large at 100,000 steps and 0.01 % at 1,000, and one evaluation takes 0.1 to 0.5 s. Finer grids cost in
# proportion.
_CELLS_PER_EPSILON = 4096
_FINEST_GRID = 2.0**-17
# For whole profiles, whose δ of interest are large: any grid is pessimistic, and this one is fine enough.
_PROFILE_DELTA, _PROFILE_CELLS_PER_EPSILON = 1e-3, 512
# Integer orders only: dp-accounting's series for fractional ones does not converge at little noise. These
# only size grids and brackets. An order costs time in proportion to itself, and orders above 1024 would only
# tell apart epsilons below ln(1/delta)/1023, for which the finest grid is taken anyway.
_RDP_ORDERS = (*range(2, 64), *(2**k for k in range(6, 11)))
_CALIBRATION_TOLERANCE = 1e-3
_NOISE_RANGE = (0.05, 1e6)


@dataclass(frozen=True)
class Truncation:
    """That samples were cut down to `limit` records out of a shard of `records` (`PoissonSampler.limit`).

    With several workers: of the shard for which it costs most, the one with the largest records / limit.

    Raises:
        InvalidParameterError: a number is not at least 1.
    """

    records: int
    limit: int

    def __post_init__(self) -> None:
        require_position(records=self.records, limit=self.limit)
        if not (self.records and self.limit):
            raise InvalidParameterError("truncation: records and limit must be at least 1")


@dataclass(frozen=True)
class Mechanism:
    """DP-SGD as the accountant sees it: `steps` releases of a Poisson-sampled Gaussian mechanism.

    Attributes:
        noise_multiplier: σ; the noise on the sum of clipped gradients has deviation σ·C per coordinate.
        sampling_rate: q in (0, 1]; each record enters each step independently with this probability.
        steps: T, the number of releases, empty batches included.
        truncation: if samples were truncated.

    Raises:
        InvalidParameterError: a parameter is out of range.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    truncation: Truncation | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise InvalidParameterError(
                f"noise_multiplier: must be positive and finite, got {self.noise_multiplier!r}"
            )
        if not 0 < self.sampling_rate <= 1:
            raise InvalidParameterError(f"sampling_rate: must lie in (0, 1], got {self.sampling_rate!r}")
        require_position(steps=self.steps)


@dataclass(frozen=True)
class CrossCheck:
    """Epsilon under add-or-remove-one by three accountants, after they were found to agree."""

    pld: float
    prv: float
    rdp: float


def epsilon(mechanism: Mechanism, delta: float) -> float:
    """The smallest ε known to hold at `delta` under add-or-remove-one: an upper bound; 0 for 0 steps.

    Raises:
        InvalidParameterError: delta is not in (0, 1).
    """
    return _epsilon(mechanism, _checked_delta(delta), Adjacency.ADD_OR_REMOVE_ONE)


def epsilon_replace_one(mechanism: Mechanism, delta: float) -> float:
    """The same mechanism's ε under replace-one, by the PLD of that relation (no group-privacy detour).

    The noise is unchanged; two clipped gradients of norm C differ by up to 2C, and either may be sampled.

    Raises:
        InvalidParameterError: delta is not in (0, 1).
    """
    return _epsilon(mechanism, _checked_delta(delta), Adjacency.REPLACE_ONE)


def privacy_profile(mechanism: Mechanism, epsilons: Sequence[float]) -> tuple[float, ...]:
    """The smallest δ known to hold at each ε under add-or-remove-one: upper bounds, from one composition.

    Raises:
        InvalidParameterError: an epsilon is negative or not finite.
    """
    if not all(math.isfinite(value) and value >= 0 for value in epsilons):
        raise InvalidParameterError("epsilons: must be 0 or more and finite")
    if mechanism.steps == 0:
        return (0.0,) * len(epsilons)
    accountant = _accountant(
        mechanism, _PROFILE_DELTA, Adjacency.ADD_OR_REMOVE_ONE, _PROFILE_CELLS_PER_EPSILON
    )
    return tuple(float(accountant.get_delta(value)) for value in epsilons)


@lru_cache(maxsize=1024)
def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The smallest noise multiplier σ, to 0.1 %, whose ε (add-or-remove-one, by PLD) is at most `epsilon`.

    The returned σ was itself evaluated: `epsilon(Mechanism(σ, …), delta) <= epsilon` holds exactly.

    Raises:
        InvalidParameterError: a parameter is out of range, or the target needs a σ outside 0.05 … 1,000,000.
    """
    _checked_delta(delta)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise InvalidParameterError(f"epsilon: must be positive and finite, got {epsilon!r}")
    if steps == 0:
        raise InvalidParameterError("steps: must be at least 1 to calibrate noise for")

    def excess(sigma: float) -> float:
        spent = _epsilon(Mechanism(sigma, sampling_rate, steps), delta, Adjacency.ADD_OR_REMOVE_ONE)
        return math.log(max(spent, 1e-12) / epsilon)

    low, high = _bracket(excess, _rdp_guess(epsilon, delta, sampling_rate, steps), epsilon)
    return _narrow(excess, low, high)


def cross_check(mechanism: Mechanism, delta: float) -> CrossCheck:
    """Epsilon by three accountants; add-or-remove-one.

    PRV must lie within its own error bound plus 1 % of PLD; RDP, which is looser, may not lie below PLD by
    more than 1 %. At q = 1 the PRV of the sampled Gaussian is undefined and the exact Gaussian formula takes
    its place (Balle and Wang, ICML 2018).

    Raises:
        AccountingDisagreement: they disagree, or one of them could not be evaluated. Do not report an
            epsilon.
        InvalidParameterError: delta is not in (0, 1).
    """
    import dp_accounting
    from opacus.accountants import PRVAccountant, RDPAccountant

    authority = epsilon(mechanism, delta)
    if mechanism.steps == 0:
        return CrossCheck(0.0, 0.0, 0.0)
    if mechanism.truncation is not None:
        return _cross_check_truncated(mechanism, mechanism.truncation, delta, authority)
    # PRV's cost grows with 1/error; its answer is an upper bound that lies up to twice the error above the
    # truth.
    prv_error = max(0.002, 0.005 * authority)
    if mechanism.sampling_rate == 1:
        exact = dp_accounting.get_epsilon_gaussian(
            mechanism.noise_multiplier / math.sqrt(mechanism.steps), delta
        )
        prv, prv_error = float(exact), 0.0
    else:
        prv = _opacus_epsilon(PRVAccountant(), mechanism, delta, eps_error=prv_error)
    loose = _opacus_epsilon(RDPAccountant(), mechanism, delta)
    slack = 0.01 * authority + 1e-4
    if not (abs(prv - authority) <= 2 * prv_error + slack and loose >= authority - slack):
        raise AccountingDisagreement(
            f"privacy accountants disagree on {mechanism} at delta {delta:g}: PLD says epsilon "
            f"{authority:.6g}, PRV {prv:.6g} (allowed error {2 * prv_error + slack:.2g}), RDP {loose:.6g} "
            "(must not be below PLD). Report none of them; choose other parameters, and report the case to "
            "the maintainers"
        )
    return CrossCheck(authority, prv, loose)


def _cross_check_truncated(
    mechanism: Mechanism, truncation: Truncation, delta: float, authority: float
) -> CrossCheck:
    """Truncation makes ε no smaller, and no larger than it is without truncation at
    δ' = δ - T(1 + e^ε)·P[sample > limit] (Chua et al., "Scalable DP-SGD: Shuffling vs. Poisson Subsampling",
    NeurIPS 2024)."""
    from scipy import stats

    plain = replace(mechanism, truncation=None)
    larger = float(stats.binom.sf(truncation.limit, truncation.records, mechanism.sampling_rate))
    left = delta - mechanism.steps * (1 + math.exp(authority)) * larger
    if left < delta / 2:
        raise AccountingDisagreement(
            f"samples of {truncation.records} records at rate {mechanism.sampling_rate:g} exceed the limit "
            f"of {truncation.limit} so often that no other accountant can confirm an epsilon; raise the limit"
        )
    checked = cross_check(plain, left)
    slack = 0.01 * authority + 1e-4
    if not epsilon(plain, delta) - slack <= authority <= checked.pld + slack:
        raise AccountingDisagreement(
            f"truncation changes epsilon of {mechanism} at delta {delta:g} to {authority:.6g}, outside of "
            f"{epsilon(plain, delta):.6g} to {checked.pld:.6g}; report the case to the maintainers"
        )
    return CrossCheck(authority, checked.prv, checked.rdp)


def _checked_delta(delta: float) -> float:
    if not 0 < delta < 1:
        raise InvalidParameterError(f"delta: must lie strictly between 0 and 1, got {delta!r}")
    return float(delta)


def _event(mechanism: Mechanism) -> dp_accounting.DpEvent:
    import dp_accounting

    if mechanism.truncation is not None:
        truncated = dp_accounting.TruncatedSubsampledGaussianDpEvent(
            mechanism.truncation.records,
            mechanism.sampling_rate,
            mechanism.truncation.limit,
            mechanism.noise_multiplier,
        )
        return dp_accounting.SelfComposedDpEvent(truncated, mechanism.steps)
    single = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    if mechanism.sampling_rate < 1:
        single = dp_accounting.PoissonSampledDpEvent(mechanism.sampling_rate, single)
    return dp_accounting.SelfComposedDpEvent(single, mechanism.steps)


@lru_cache(maxsize=4096)
def _epsilon(mechanism: Mechanism, delta: float, adjacency: Adjacency) -> float:
    if mechanism.steps == 0:
        return 0.0
    return float(_accountant(mechanism, delta, adjacency).get_epsilon(delta))


def _accountant(
    mechanism: Mechanism, delta: float, adjacency: Adjacency, cells_per_epsilon: int = _CELLS_PER_EPSILON
) -> dp_accounting.pld.PLDAccountant:
    """Compose all steps, on a grid for answers around the ε at `delta`."""
    from dp_accounting import NeighboringRelation, pld

    # A grid proportional to the expected answer keeps both the relative error and the memory bounded: a fixed
    # grid would need gigabytes for a mechanism with next to no noise.
    cell = 2.0 ** math.floor(math.log2(_rdp_epsilon(mechanism, delta) / cells_per_epsilon))
    relation = NeighboringRelation[adjacency.name]
    accountant = pld.PLDAccountant(relation, value_discretization_interval=max(cell, _FINEST_GRID))
    accountant.compose(_event(mechanism))
    return accountant


def _rdp_epsilon(mechanism: Mechanism, delta: float) -> float:
    """Without truncation; only sizes grids and brackets."""
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(_RDP_ORDERS)
    accountant.compose(_event(replace(mechanism, truncation=None)))
    return max(float(accountant.get_epsilon(delta)), 1e-3)


def _rdp_guess(target: float, delta: float, sampling_rate: float, steps: int) -> float:
    """A σ near the answer, by a few cheap RDP evaluations."""
    low, high = _NOISE_RANGE
    while high / low > 1.1:
        middle = math.sqrt(low * high)
        if _rdp_epsilon(Mechanism(middle, sampling_rate, steps), delta) > target:
            low = middle
        else:
            high = middle
    return high


def _bracket(excess: Callable[[float], float], guess: float, target: float) -> tuple[float, float]:
    """(low, high) with excess(low) > 0 >= excess(high)."""
    smallest, largest = _NOISE_RANGE
    low = high = guess
    factor = 1.2
    while excess(high) > 0:
        if high >= largest:
            raise InvalidParameterError(
                f"epsilon: {target:g} needs a noise multiplier above {largest:g}; ask for a larger epsilon, "
                "fewer steps or a smaller sampling rate"
            )
        low, high, factor = high, min(high * factor, largest), factor**2
    while low == high or excess(low) <= 0:
        if low <= smallest:
            raise InvalidParameterError(
                f"epsilon: {target:g} is met even with a noise multiplier of {smallest:g}, which protects "
                "nobody; ask for a smaller epsilon"
            )
        high, low, factor = low, max(low / factor, smallest), factor**2
    return low, high


def _narrow(excess: Callable[[float], float], low: float, high: float) -> float:
    """Shrinks a bracket to the tolerance; returns its upper end, which was evaluated and is within target."""
    at_low, at_high = excess(low), excess(high)
    # Aiming a little to either side of the interpolated root, in turn, closes the bracket from both ends;
    # every third point is the middle, which bounds the number of evaluations.
    nudges = cycle(
        (math.sqrt(1 + _CALIBRATION_TOLERANCE / 2), 1 / math.sqrt(1 + _CALIBRATION_TOLERANCE / 2), None)
    )
    while high / low > 1 + _CALIBRATION_TOLERANCE:
        nudge = next(nudges)
        point = math.sqrt(low * high)
        if nudge is not None:
            guess = low * (high / low) ** (at_low / (at_low - at_high)) * nudge
            point = guess if low < guess < high else point
        value = excess(point)
        if value > 0:
            low, at_low = point, value
        else:
            high, at_high = point, value
    return high


def _opacus_epsilon(
    accountant: PRVAccountant | RDPAccountant, mechanism: Mechanism, delta: float, **options: float
) -> float:
    accountant.history = [(mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps)]
    # Opacus warns of intermediate overflow and of orders at the end of its list; what counts is the
    # comparison of the results, and NaN compares as disagreement.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(accountant.get_epsilon(delta, **options))
        except (ArithmeticError, RuntimeError, ValueError) as error:
            raise AccountingDisagreement(
                f"{type(accountant).__name__} could not evaluate {mechanism} at delta {delta:g}: {error}. "
                "Without a second opinion no epsilon may be reported; choose other parameters"
            ) from error
