"""Privacy auditing with one training run: from right guesses about canaries to a lower bound on ε.

Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run" (NeurIPS 2023). Each of m canaries
is in the data by its own fair coin. Whoever sees what was released guesses some of the coins and abstains on
the others. Differential privacy, in the sense of adding or removing one record, limits how many guesses can
be right, although all canaries were in the same run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secure_train.dp.errors import InvalidParameterError

Scores = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]

GUESSED_SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Shares of the canaries that are guessed, tried one after the other: few and sure, or many and unsure."""
_LARGEST_EPSILON = 64.0


@dataclass(frozen=True)
class Guesses:
    """How guessing went.

    Attributes:
        canaries: m, how many fair coins were thrown.
        made: r, guesses that were made; on the others one abstained.
        right: v, guesses that were right.

    Raises:
        InvalidParameterError: unless 0 ≤ right ≤ made ≤ canaries.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries:
            raise InvalidParameterError(
                f"guesses: need right ≤ made ≤ canaries, got {self.right}, {self.made}, {self.canaries}"
            )


@dataclass(frozen=True)
class OneRunBound:
    """A lower bound on ε.

    Attributes:
        epsilon: with probability at least the confidence asked for, no smaller ε holds at that δ; 0 if
            nothing can be said.
        guesses: those that gave the bound.
    """

    epsilon: float
    guesses: Guesses


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """The largest probability that an (ε, δ)-DP mechanism lets so many guesses be right.

    Theorem 5.2 of the paper, of which its theorem 3.1 is the short form: with
    f(v) = P[Binomial(r, e^ε/(1+e^ε)) ≥ v],

        P[right ≥ v] ≤ f(v) + 2mδ · max over i ∈ {1 … m} of (f(v-i) - f(v)) / i.

    For i > v the numerator stays 1 - f(v), so that i ≤ v suffices.
    """
    from scipy import stats

    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise InvalidParameterError(f"epsilon, delta: out of range, got {epsilon!r}, {delta!r}")
    v, r = guesses.right, guesses.made
    if v == 0:
        return 1.0
    rate = 1 / (1 + math.exp(-epsilon))
    at_least_v = float(stats.binom.sf(v - 1, r, rate))
    # f(v-i) - f(v) = P[v - i <= Binomial < v], for i = 1 … v
    below = np.cumsum(stats.binom.pmf(np.arange(v - 1, -1, -1), r, rate))
    correction = float((below / np.arange(1, v + 1)).max())
    return min(1.0, at_least_v + 2 * guesses.canaries * delta * correction)


def epsilon_lower_bound(guesses: Guesses, delta: float, failure: float) -> float:
    """The largest ε that is refuted at level `failure`, to 1e-4, rounded down; 0 if not even 0 is.

    What is refuted at some ε is refuted at every smaller one: (ε', δ)-DP implies (ε, δ)-DP for ε' < ε.

    Raises:
        InvalidParameterError: delta or failure is out of range.
    """
    if not 0 < failure < 1:
        raise InvalidParameterError(f"failure: must lie strictly between 0 and 1, got {failure!r}")
    if p_value(guesses, 0.0, delta) > failure:
        return 0.0
    low, high = 0.0, _LARGEST_EPSILON
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_value(guesses, middle, delta) <= failure:
            low = middle
        else:
            high = middle
    return low


def guess(scores: Scores, included: Coins, made: int) -> Guesses:
    """Guess that the highest scores were in and the lowest were not, half of `made` each; abstain between.

    Args:
        scores: shape (m,), larger for canaries that look included; computed without looking at the coins.
        included: shape (m,), the coins.
        made: how many to guess, fixed without looking at the coins either.
    """
    if scores.shape != included.shape or scores.ndim != 1:
        raise InvalidParameterError(f"scores, included: need one shape (m,), got {scores.shape}")
    order = np.argsort(scores, kind="stable")
    out, into = order[: made // 2], order[len(order) - (made - made // 2) :]
    right = int((~included[out]).sum() + included[into].sum())
    return Guesses(len(scores), made, right)


def audit_scores(
    scores: Scores,
    included: Coins,
    delta: float,
    failure: float,
    *,
    shares: Sequence[float] = GUESSED_SHARES,
) -> OneRunBound:
    """The best bound over several numbers of guesses, each at its part of `failure` (union bound).

    Args:
        scores: shape (m,), larger for canaries that look included.
        included: shape (m,).
        delta: the δ to state ε at.
        failure: probability that the bound is wrong.
        shares: of the canaries that are guessed.
    """
    if len(scores) < 2 or not shares:
        raise InvalidParameterError("scores: need at least 2 canaries and one number of guesses")
    numbers = sorted({min(len(scores), max(2, round(share * len(scores)))) for share in shares})
    bounds = []
    for made in numbers:
        guesses = guess(scores, included, made)
        bounds.append(OneRunBound(epsilon_lower_bound(guesses, delta, failure / len(numbers)), guesses))
    return max(bounds, key=lambda bound: bound.epsilon)
