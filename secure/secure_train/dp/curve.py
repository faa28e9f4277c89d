"""ε against quality: the same training at several ε, on records that need no protection.

Nothing is charged, so the records must be public or synthetic. Models are trained by the product's own step,
sampler and noise, at the σ that the accountant gives for each ε; the quality is measured exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from secure_train.dp.accounting import Mechanism, calibrate
from secure_train.dp.audit.subject import Optimizer, Subject, Trained
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import derive
from secure_train.dp.sampling import PoissonSampler


@dataclass(frozen=True)
class CurvePlan:
    """How each model is trained.

    Attributes:
        batch_size: expected size of a logical batch, at most the number of records.
        steps: T.
        delta: the δ of every point.
        max_grad_norm: clipping norm C.
        workers: how many share records and noise.
        training_share: the part of each ε that training gets; evaluations get the rest.
        repeats: models per ε, each with its own samples and noise.
    """

    batch_size: float
    steps: int
    delta: float
    max_grad_norm: float
    workers: int = 1
    training_share: float = 1.0
    repeats: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.training_share <= 1:
            raise InvalidParameterError(f"training_share: must lie in (0, 1], got {self.training_share!r}")
        if self.repeats < 1 or self.steps < 1:
            raise InvalidParameterError("repeats, steps: must be at least 1")


@dataclass(frozen=True)
class CurvePoint:
    """One ε.

    Attributes:
        epsilon: total; None: trained without privacy, neither clipped nor noised.
        noise_multiplier: σ, 0 without privacy.
        qualities: of each model.
    """

    epsilon: float | None
    noise_multiplier: float
    qualities: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean quality."""
        return float(np.mean(self.qualities))


def quality_curve(
    plan: CurvePlan,
    trained: Trained,
    records: tuple[Tensor, Tensor],
    quality: Callable[[nn.Module], float],
    epsilons: Sequence[float],
    key: bytes,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[CurvePoint, ...]:
    """Train at every ε and without privacy; the latter comes last.

    Args:
        plan: how.
        trained: model, per-record losses and optimizer; a batch is (inputs, targets).
        records: public or synthetic inputs and targets.
        quality: of a model in evaluation mode, measured without noise.
        epsilons: total ε of each point.
        key: 32 bytes, for samples and noise.
        progress: is told the number of steps taken.

    Raises:
        InvalidParameterError: an ε that no σ within range meets, or a batch larger than the data.
    """
    if trained.optimizer is None:
        raise InvalidParameterError("trained: needs an optimizer")
    if plan.batch_size > len(records[0]):
        raise InvalidParameterError(
            f"batch_size: {plan.batch_size:g} is larger than the data of {len(records[0])} records"
        )
    rate = plan.batch_size / len(records[0])

    def private(sigma: float, own_key: bytes) -> nn.Module:
        subject = Subject(
            Mechanism(sigma, rate, plan.steps), plan.max_grad_norm, plan.batch_size, plan.workers
        )
        return subject.run(trained, subject.shards(records), own_key, lambda *seen: progress(1))

    points = []
    for epsilon in sorted(epsilons):
        sigma = calibrate(epsilon * plan.training_share, plan.delta, rate, plan.steps)
        points.append(
            CurvePoint(
                epsilon,
                sigma,
                tuple(
                    quality(private(sigma, derive(key, "curve", epsilon=epsilon, repeat=repeat)).eval())
                    for repeat in range(plan.repeats)
                ),
            )
        )
    make_optimizer = trained.optimizer
    plain = tuple(
        quality(
            _without_privacy(
                plan,
                trained,
                make_optimizer,
                records,
                rate,
                derive(key, "curve-plain", repeat=repeat),
                progress,
            )
        )
        for repeat in range(plan.repeats)
    )
    return (*points, CurvePoint(None, 0.0, plain))


def _without_privacy(
    plan: CurvePlan,
    trained: Trained,
    make_optimizer: Optimizer,
    records: tuple[Tensor, Tensor],
    rate: float,
    key: bytes,
    progress: Callable[[int], None],
) -> nn.Module:
    """The same optimizer on samples from the same sampler, neither clipped nor noised."""
    model = copy.deepcopy(trained.model).train()
    optimizer = make_optimizer(model)
    sampler = PoissonSampler(len(records[0]), rate, key, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in range(plan.steps):
            chosen = sampler.sample(0, step)
            optimizer.zero_grad()
            losses: Tensor = trained.loss_fn(model, (records[0][chosen], records[1][chosen]))
            torch.autograd.backward(losses.sum() / plan.batch_size)
            optimizer.step()
            progress(1)
    return model.eval()
