"""The discrete Gaussian, sampled exactly: integer arithmetic only, from a keyed stream of random words.

Canonne, Kamath, Steinke: "The Discrete Gaussian for Differential Privacy" (NeurIPS 2020), algorithms 1 to 3,
over whole arrays at once. Every comparison is between integers, so the distribution is the stated one to the
last bit, up to the stream's indistinguishability from random. How long a call takes depends on the values
drawn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import Words

LARGEST_SCALE = 1 << 22
"""Keeps all products below 2^63: 2·S² times a few dozen, and (64·S)²."""
_CHUNK = 1 << 16
# A Laplace variate beyond this many scales has probability e^-64 and would overflow; it is refused by the
# acceptance step anyway, with probability above 1 - e^-1900.
_MOST_SCALES = 64

_Integers = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def discrete_gaussian(words: Words, count: int, scale: int) -> _Integers:
    """Draw independent integers x with probability proportional to exp(-x² / (2·scale²)).

    Shape (count,), int64. The variance is at most scale², and equal to it up to e^(-2π²·scale²).

    Args:
        words: the source of randomness, consumed.
        count: how many.
        scale: S, a whole number from 1 to `LARGEST_SCALE`.

    Raises:
        InvalidParameterError: the scale is out of range.
    """
    if isinstance(scale, bool) or not isinstance(scale, int) or not 1 <= scale <= LARGEST_SCALE:
        raise InvalidParameterError(f"scale: must be a whole number from 1 to {LARGEST_SCALE}, got {scale!r}")
    parts = [_gaussian(words, min(_CHUNK, count - at), scale) for at in range(0, count, _CHUNK)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _gaussian(words: Words, count: int, scale: int) -> _Integers:
    """Algorithm 3 with t = S: a Laplace variate y of scale S is kept with probability
    exp(-(|y| - S)² / (2·S²))."""
    result = np.empty(count, np.int64)
    missing = np.arange(count)
    while missing.size:
        candidates = _laplace(words, missing.size, scale)
        distance = np.abs(candidates) - scale
        kept = _exp_minus(words, distance * distance, 2 * scale * scale)
        result[missing[kept]] = candidates[kept]
        missing = missing[~kept]
    return result


def _laplace(words: Words, count: int, scale: int) -> _Integers:
    """Algorithm 2: integers with probability proportional to exp(-|y| / S)."""
    result = np.empty(count, np.int64)
    missing = np.arange(count)
    while missing.size:
        fraction = _below(words, missing.size, scale)
        good = _exp_minus(words, fraction, scale)
        whole = np.zeros(missing.size, np.int64)
        going = np.flatnonzero(good)
        while going.size:
            going = going[_exp_minus_one(words, going.size)]
            whole[going] += 1
            good[going[whole[going] > _MOST_SCALES]] = False
            going = going[whole[going] <= _MOST_SCALES]
        magnitude = fraction + scale * whole
        negative = (words.take(missing.size) & np.uint64(1)).astype(bool)
        good &= ~(negative & (magnitude == 0))
        result[missing[good]] = np.where(negative, -magnitude, magnitude)[good]
        missing = missing[~good]
    return result


def _exp_minus(words: Words, numerators: _Integers, denominator: int) -> _Flags:
    """Algorithm 1: True with probability exp(-numerator / denominator), for each numerator ≥ 0."""
    whole, rest = np.divmod(numerators, denominator)
    result: _Flags = np.ones(numerators.size, bool)
    going = np.flatnonzero(whole)
    while going.size:
        alive = _exp_minus_one(words, going.size)
        result[going[~alive]] = False
        whole[going] -= 1
        going = going[alive & (whole[going] > 0)]
    left = np.flatnonzero(result)
    result[left] = _exp_minus_fraction(words, rest[left], denominator)
    return result


def _exp_minus_one(words: Words, count: int) -> _Flags:
    return _exp_minus_fraction(words, np.ones(count, np.int64), 1)


def _exp_minus_fraction(words: Words, numerators: _Integers, denominator: int) -> _Flags:
    """True with probability exp(-γ) for γ = numerator / denominator ≤ 1: the first k with a failure of
    Bernoulli(γ/k) is odd (von Neumann's trick)."""
    result = np.empty(numerators.size, bool)
    going = np.arange(numerators.size)
    k = 1
    while going.size:
        success = _below(words, going.size, denominator * k) < numerators[going]
        result[going[~success]] = k % 2 == 1
        going = going[success]
        k += 1
    return result


def _below(words: Words, count: int, bound: int) -> _Integers:
    """Uniform integers from 0 to bound - 1: words beyond the last multiple of bound are drawn again."""
    if bound == 1:
        return np.zeros(count, np.int64)
    last = np.uint64((1 << 64) - (1 << 64) % bound - 1)
    drawn = words.take(count)
    while (refused := np.flatnonzero(drawn > last)).size:
        drawn = drawn.copy()
        drawn[refused] = words.take(refused.size)
    return (drawn % np.uint64(bound)).astype(np.int64)
