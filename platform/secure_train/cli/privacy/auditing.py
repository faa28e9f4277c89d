"""An empirical audit of the engine at a job's parameters, on synthetic records."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from secure_train import dp
from secure_train.dp.audit import Subject, Trial, gradient_canary_audit, neighbour_audit
from secure_train.jobs.cost import evaluation_epsilon, steps_of
from secure_train.spec import TrainingJob

CONFIDENCE = 0.95
_PARALLEL = 250


@dataclass(frozen=True)
class Claim:
    """What is audited: the mechanism as the accountant is told, and the δ at which its ε is claimed."""

    mechanism: dp.Mechanism
    delta: float
    max_grad_norm: float
    workers: int


def claim_of(job: TrainingJob, training_rows: int) -> Claim:
    """The claim that a job would make on that many training rows.

    Raises:
        InvalidParameterError: its ε cannot be met.
    """
    rate, steps = min(1.0, job.training.batch_size / training_rows), steps_of(job, training_rows)
    training = job.privacy.epsilon - evaluation_epsilon(job)
    sigma = dp.calibrate(training, job.privacy.delta, rate, steps)
    mechanism = dp.Mechanism(sigma, rate, steps)
    return Claim(mechanism, job.privacy.delta, job.privacy.max_grad_norm, job.resources.workers)


def steps_needed(claim: Claim, method: dp.AuditMethod, experiments: int) -> int:
    """How many steps the audit takes."""
    if method is dp.AuditMethod.CANARY:
        return claim.mechanism.steps
    return 2 * claim.mechanism.steps * _runs(experiments)


def audit(
    claim: Claim,
    method: dp.AuditMethod,
    experiments: int,
    seed: int | None,
    progress: Callable[[int], None],
) -> dp.EmpiricalAudit:
    """Audit the product's step, sampler and noise under that claim.

    Args:
        claim: what is claimed.
        method: how.
        experiments: canaries; or experiments on each of two neighbouring datasets, rounded up to whole runs.
        seed: makes it repeatable; None draws the keys from the operating system.
        progress: is told the number of steps taken.

    Raises:
        InvalidParameterError: parameters out of range.
    """
    key = secrets.token_bytes(32) if seed is None else hashlib.sha256(f"audit {seed}".encode()).digest()
    subject = Subject(claim.mechanism, claim.max_grad_norm, workers=claim.workers)
    claimed = dp.epsilon(claim.mechanism, claim.delta)
    failure = 1 - CONFIDENCE
    if method is dp.AuditMethod.CANARY:
        trial = Trial(claim.delta, key, failure, progress)
        bound = gradient_canary_audit(subject, experiments, trial).epsilon
        refuted = bound > claimed
    else:
        found = neighbour_audit(
            subject,
            claim.delta,
            _runs(experiments),
            key,
            parallel=_PARALLEL,
            failure=failure,
            progress=progress,
        )
        experiments, bound, refuted = found.experiments, found.epsilon, found.refuted
    return dp.EmpiricalAudit(
        method=method,
        epsilon_lower_bound=bound,
        epsilon_claimed=claimed,
        delta=claim.delta,
        confidence=CONFIDENCE,
        refuted=refuted,
        noise_multiplier=claim.mechanism.noise_multiplier,
        sampling_rate=claim.mechanism.sampling_rate,
        steps=claim.mechanism.steps,
        max_grad_norm=claim.max_grad_norm,
        workers=claim.workers,
        experiments=experiments,
        seed=seed,
        version=version("secure-train"),
        at=datetime.now(UTC),
    )


def _runs(experiments: int) -> int:
    return math.ceil(experiments / _PARALLEL)
