"""The worst-case-neighbour audit: many runs with and without one record that contributes C.

Nasr et al., "Tight Auditing of Differentially Private Machine Learning" (USENIX Security 2023): the attacker
chooses the gradients and sees every noised sum, which is what the accountant assumes. A correct engine shows
an ε just below the claimed one; one that shows more breaks its claim.

Experiments may share runs: with `parallel` records whose gradients are orthogonal, each record's coordinate
is distributed as between two neighbours that differ in that record alone. The confidence is for engines whose
noise and samples are independent between runs, coordinates and records, as every correct engine's are: a
correct engine is falsely accused with at most the stated probability, whatever happens to a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secure_train.dp.accounting import Mechanism
from secure_train.dp.audit import linear, tradeoff
from secure_train.dp.audit.confidence import upper_rate
from secure_train.dp.audit.likelihood import evidence_of_inclusion
from secure_train.dp.audit.subject import Subject
from secure_train.dp.audit.tradeoff import ErrorRates
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import derive

_OTHERS = 3
"""Records per worker that are in both datasets and contribute nothing."""
_TAIL = (0.002, 0.005, 0.01, 0.02, 0.05)
_CAUTION = 0.01
_QUANTILES = (*_TAIL, *np.linspace(0.1, 0.9, 9), *(1 - share for share in _TAIL))


@dataclass(frozen=True)
class NeighbourAudit:
    """What many runs on two neighbouring datasets showed.

    Attributes:
        epsilon: lower bound on ε at the δ asked for, within the family of Poisson-sampled Gaussian mechanisms
            of the claimed q and T.
        distribution_free_epsilon: lower bound without that presumption; far smaller where δ is small.
        refuted: whether the error rates are impossible under the claim, whatever family.
        rates: bounds on the attacker's error rates, together right with the confidence asked for.
        experiments: on each side; half of them only chose the threshold.
    """

    epsilon: float
    distribution_free_epsilon: float
    refuted: bool
    rates: ErrorRates
    experiments: int


def neighbour_audit(
    subject: Subject,
    delta: float,
    runs: int,
    key: bytes,
    *,
    parallel: int = 1,
    failure: float = 0.05,
    progress: Callable[[int], None] = lambda done: None,
) -> NeighbourAudit:
    """Run the mechanism `runs` times on a dataset and as often on its neighbour, and tell them apart.

    Half of the runs choose the attacker's threshold, the other half estimate its errors: choosing on the runs
    that one estimates from would void the confidence.

    Args:
        subject: the claim and the engine.
        delta: the δ to state ε at.
        runs: on each dataset.
        key: 32 bytes.
        parallel: experiments that share a run; runs x parallel must be at least 20.
        failure: probability with which a correct engine may show more than it claims.
        progress: is told the number of steps taken.

    Raises:
        InvalidParameterError: too few runs.
    """
    experiments = runs * parallel
    if experiments < 20:
        raise InvalidParameterError(f"runs: need at least 20 experiments on each side, got {experiments}")
    without, with_it = (
        _scores(subject, present, parallel, runs, derive(key, "audit-neighbour", present=present), progress)
        for present in (0, parallel)
    )
    half = experiments // 2
    # Two thresholds, each with half of the failure probability: neither rule is good for every mechanism.
    thresholds = _thresholds(without[:half], with_it[:half], subject.mechanism, failure / 2)
    found = [_rates(without[half:], with_it[half:], threshold, failure / 2) for threshold in thresholds]
    bounds = [tradeoff.epsilon_lower_bound(rates, subject.mechanism, delta) for rates in found]
    best = int(np.argmax(bounds))
    return NeighbourAudit(
        epsilon=bounds[best],
        distribution_free_epsilon=max(tradeoff.distribution_free_epsilon(rates, delta) for rates in found),
        refuted=any(tradeoff.refutes(rates, subject.mechanism) for rates in found),
        rates=found[best],
        experiments=experiments,
    )


def _scores(
    subject: Subject, present: int, parallel: int, runs: int, key: bytes, progress: Callable[[int], None]
) -> npt.NDArray[np.float64]:
    """The attacker's scores with the first `present` of the records in the data, shape (runs * parallel,)."""
    outliers = linear.directions(torch.arange(present), parallel, subject.max_grad_norm)
    common = linear.nothing(_OTHERS, parallel)
    shards = [(torch.cat([*common, *part]),) for part in subject.shards(outliers)]
    scores = np.zeros((runs, parallel))

    def observe(epoch: int, step: int, released: Tensor) -> None:
        scores[epoch] += evidence_of_inclusion(released.numpy(), subject.mechanism)
        progress(1)

    subject.run(linear.linear_model(parallel), shards, key, observe, runs=runs)
    return scores.flatten()


def _thresholds(
    without: npt.NDArray[np.float64], with_it: npt.NDArray[np.float64], mechanism: Mechanism, failure: float
) -> set[float]:
    """Of some quantiles, those whose error bounds are best on a Gaussian scale and best against the claim.

    Bounds are stricter here than those that are stated: the best of many would else be the luckiest, far in
    a tail.
    """
    from scipy import stats

    candidates = np.quantile(np.concatenate([without, with_it]), _QUANTILES)

    def separation(threshold: float) -> float:
        rates = _rates(without, with_it, threshold, failure * _CAUTION)
        return -float(stats.norm.ppf(rates.false_positive) + stats.norm.ppf(rates.false_negative))

    def excess(threshold: float) -> float:
        return tradeoff.excess(_rates(without, with_it, threshold, failure * _CAUTION), mechanism)

    return {float(max(candidates, key=separation)), float(max(candidates, key=excess))}


def _rates(
    without: npt.NDArray[np.float64], with_it: npt.NDArray[np.float64], threshold: float, failure: float
) -> ErrorRates:
    return ErrorRates(
        upper_rate(int((without > threshold).sum()), len(without), failure / 2),
        upper_rate(int((with_it <= threshold).sum()), len(with_it), failure / 2),
    )
