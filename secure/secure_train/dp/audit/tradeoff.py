"""Whether two error rates of an attacker are possible under a claimed mechanism, and under which they are.

An attacker tells a dataset from its neighbour with false positive rate a and false negative rate b. Under a
mechanism whose privacy profile is δ(ε), every attacker has

    b ≥ 1 - δ(ε) - e^ε a   and   a ≥ 1 - δ(ε) - e^ε b,   for all ε

(Wasserman and Zhou 2010; Dong, Roth and Su, "Gaussian Differential Privacy", JRSS-B 2022, proposition 2.12).
Error rates outside of that region refute the claim at all ε at once, which one (ε, δ) at a small δ cannot: it
would take 1/δ runs to see. For DP-SGD the profile is the accountant's (Nasr et al., "Tight Auditing of
Differentially Private Machine Learning", USENIX Security 2023, section 5, who take a Gaussian one for q = 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from secure_train.dp.accounting import Mechanism, epsilon, privacy_profile
from secure_train.dp.errors import InvalidParameterError

_EPSILONS = tuple(float(value) for value in np.concatenate([[0.0], np.geomspace(0.01, 20.0, 64)]))
_SEARCH_FACTOR = 16.0
_LEAST_NOISE = 0.05
_GROWTH = np.exp(_EPSILONS)
_SEARCH_STEPS = 10
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ErrorRates:
    """Upper bounds on both error rates of an attacker that hold together with some confidence."""

    false_positive: float
    false_negative: float

    def __post_init__(self) -> None:
        for name, value in (
            ("false_positive", self.false_positive),
            ("false_negative", self.false_negative),
        ):
            if not 0 <= value <= 1:
                raise InvalidParameterError(f"{name}: must lie in [0, 1], got {value!r}")


def distribution_free_epsilon(rates: ErrorRates, delta: float) -> float:
    """The ε at `delta` that these rates refute whatever the mechanism is (Kairouz, Oh, Viswanath 2015)."""
    best = 0.0
    for one, other in (
        (rates.false_positive, rates.false_negative),
        (rates.false_negative, rates.false_positive),
    ):
        if one > 0 and 1 - other - delta > 0:
            best = max(best, math.log((1 - other - delta) / one))
    return best


def excess(rates: ErrorRates, mechanism: Mechanism) -> float:
    """How far rates are beyond what the mechanism allows (add or remove one), in units of probability.

    Positive: no mechanism as private as this one allows them. The profile is the pessimistic one of
    `accounting`: what is refuted is so under the true one too.
    """
    a, b = rates.false_positive, rates.false_negative
    beyond = np.maximum(1 - b - _GROWTH * a, 1 - a - _GROWTH * b) - _profile(mechanism)
    return float(beyond.max()) - _ROUNDING


def refutes(rates: ErrorRates, mechanism: Mechanism) -> bool:
    """Whether no mechanism as private as this one allows such rates."""
    return excess(rates, mechanism) > 0


@lru_cache(maxsize=64)
def _profile(mechanism: Mechanism) -> npt.NDArray[np.float64]:
    return np.array(privacy_profile(mechanism, _EPSILONS))


def epsilon_lower_bound(rates: ErrorRates, claimed: Mechanism, delta: float) -> float:
    """ε at `delta` of the mechanism with the most noise that is not refuted; rounded down.

    Among Poisson-sampled Gaussian mechanisms of the claimed q and T: it says how much noise can have been
    there at most. 0 if the rates refute none.
    """
    low = max(claimed.noise_multiplier / _SEARCH_FACTOR, _LEAST_NOISE)
    high = claimed.noise_multiplier * _SEARCH_FACTOR
    if not refutes(rates, replace(claimed, noise_multiplier=high)):
        return 0.0
    if refutes(rates, replace(claimed, noise_multiplier=low)):
        return epsilon(replace(claimed, noise_multiplier=low), delta)
    for _ in range(_SEARCH_STEPS):
        middle = math.sqrt(low * high)
        if refutes(rates, replace(claimed, noise_multiplier=middle)):
            high = middle
        else:
            low = middle
    return epsilon(replace(claimed, noise_multiplier=high), delta)
