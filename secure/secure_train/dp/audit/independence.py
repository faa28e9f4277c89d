"""Tests of what a correct engine's randomness must look like, each with its probability of a false alarm.

Noise: on empty batches, what is released is noise alone. It must have the accounted deviation, and different
steps, epochs and jobs must be uncorrelated. Samples: a record is sampled with probability q, and records of
different workers are sampled independently of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secure_train.dp.audit import linear
from secure_train.dp.audit.subject import Subject
from secure_train.dp.errors import InvalidParameterError


@dataclass(frozen=True)
class Finding:
    """One test's outcome.

    Attributes:
        p_value: probability that a correct engine looks at least as wrong.
        what: what was measured, in words.
    """

    p_value: float
    what: str


def noise_level(subject: Subject, coordinates: int, key: bytes) -> Finding:
    """Whether the noise of one step has deviation σC: a two-sided χ² test over its coordinates."""
    from scipy import stats

    noise = _noise(subject, coordinates, key)[0]
    statistic = float((noise**2).sum()) / subject.mechanism.noise_multiplier**2
    p_value = 2 * min(stats.chi2.cdf(statistic, coordinates), stats.chi2.sf(statistic, coordinates))
    deviation = math.sqrt(statistic / coordinates)
    return Finding(min(1.0, float(p_value)), f"the noise has {deviation:.4f} times the claimed deviation")


def noise_independence(subject: Subject, coordinates: int, key: bytes) -> Finding:
    """Whether different steps have different noise: the largest correlation of any two of T steps."""
    from scipy import stats

    noise = _noise(subject, coordinates, key)
    if len(noise) < 2:
        raise InvalidParameterError("subject: need at least two steps to compare")
    directions = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    pairs = np.abs((directions @ directions.T)[np.triu_indices(len(noise), 1)])
    # For independent Gaussians the squared cosine of an angle is Beta(1/2, (n-1)/2), exactly.
    largest = float(min(pairs.max(), 1.0))
    p_value = float(stats.beta.sf(largest**2, 0.5, (coordinates - 1) / 2)) * len(pairs)
    return Finding(min(1.0, p_value), f"noise of two steps correlates by up to {largest:.4f}")


def sampling_rate(subject: Subject, records: int, key: bytes) -> Finding:
    """Whether records are sampled with probability q: an exact binomial test over records and steps."""
    from scipy import stats

    sampled = _samples(subject, records, key)
    count, total = int(sampled.sum()), sampled.size
    p_value = stats.binomtest(count, total, subject.mechanism.sampling_rate).pvalue
    return Finding(float(p_value), f"{count} of {total} record-steps were sampled")


def sampling_independence(subject: Subject, records: int, key: bytes) -> Finding:
    """Whether different workers sample independently of each other.

    Two workers' rows at the same place in their shards are both in or both out with probability q² + (1-q)².
    """
    from scipy import stats

    if subject.workers < 2:
        raise InvalidParameterError("subject: need at least two workers to compare")
    sampled = _samples(subject, records, key)
    rate = subject.mechanism.sampling_rate
    expected = rate**2 + (1 - rate) ** 2
    found = []
    for one in range(subject.workers):
        for other in range(one):
            agreeing = int((sampled[one] == sampled[other]).sum())
            found.append(stats.binomtest(agreeing, sampled[one].size, expected).pvalue)
    return Finding(
        min(1.0, float(min(found)) * len(found)), f"least p-value of {len(found)} pairs of workers"
    )


def _noise(subject: Subject, coordinates: int, key: bytes) -> npt.NDArray[np.float64]:
    """What is released without any record, shape (T, n), in units of C."""
    seen: list[Tensor] = []
    shards = [linear.nothing(0, coordinates) for _ in range(subject.workers)]
    subject.run(
        linear.linear_model(coordinates), shards, key, lambda epoch, step, released: seen.append(released)
    )
    return torch.stack(seen).numpy()


def _samples(subject: Subject, records: int, key: bytes) -> npt.NDArray[np.bool_]:
    """Who was sampled, shape (W, T, records)."""
    sampled = np.zeros((subject.workers, subject.mechanism.steps, records), dtype=bool)
    for rank in range(subject.workers):
        sampler = subject.parts.sampler(records, subject.mechanism.sampling_rate, key, rank)
        for step in range(subject.mechanism.steps):
            sampled[rank, step, sampler.sample(0, step).numpy()] = True
    return sampled
