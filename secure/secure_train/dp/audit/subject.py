"""What is audited: the product's own step, sampler and noise, run by as many workers as a job would have."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secure_train.dp.accounting import Mechanism
from secure_train.dp.audit.group import run_workers
from secure_train.dp.clipping import LossFunction, PerformanceFlags
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.noise import GaussianNoise, Noise
from secure_train.dp.sampling import PoissonSampler
from secure_train.dp.step import AllReduce, PrivacySpec, PrivateStep

Observer = Callable[[int, int, Tensor], None]
"""(epoch, step, released): the noised sum over all workers, flat, in units of C. To be copied if kept."""
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]
_PHYSICAL_BATCH = 4096


@dataclass(frozen=True)
class Parts:
    """The three parts of the engine that a guarantee rests on."""

    step: type[PrivateStep] = PrivateStep
    sampler: type[PoissonSampler] = PoissonSampler
    noise: type[Noise] = GaussianNoise


@dataclass(frozen=True)
class Trained:
    """What is trained.

    Attributes:
        model: every worker trains a copy of it.
        loss_fn: (model, batch) to per-record losses; a batch is a tuple of tensors.
        optimizer: made for a model, moves its weights; without one they stay, for models whose gradients do
            not depend on them.
    """

    model: nn.Module
    loss_fn: LossFunction
    optimizer: Optimizer | None = None


@dataclass(frozen=True)
class Subject:
    """A mechanism as claimed, and how it is run.

    Attributes:
        mechanism: σ, q and T as the accountant is told.
        max_grad_norm: clipping norm C.
        expected_batch_size: the public constant that sums are divided by.
        workers: how many share the noise and the records.
        parts: the engine.

    Raises:
        InvalidParameterError: truncated sampling, which an audit does not cover; or no step or worker.
    """

    mechanism: Mechanism
    max_grad_norm: float = 1.0
    expected_batch_size: float = 1.0
    workers: int = 1
    parts: Parts = Parts()

    def __post_init__(self) -> None:
        if self.mechanism.truncation is not None:
            raise InvalidParameterError("mechanism: audits cover plain Poisson sampling, without truncation")
        if self.mechanism.steps < 1 or self.workers < 1:
            raise InvalidParameterError("mechanism, workers: need at least one step and one worker")

    def shards(self, records: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Deal records out to workers by their position, as a job does."""
        return [tuple(tensor[rank :: self.workers] for tensor in records) for rank in range(self.workers)]

    def run(
        self,
        trained: Trained,
        shards: Sequence[tuple[Tensor, ...]],
        key: bytes,
        observe: Observer,
        *,
        runs: int = 1,
    ) -> nn.Module:
        """Take all T steps, `runs` times over, each time in a noise epoch of its own.

        Runs are independent of each other, since no position is used twice.

        Args:
            trained: the model; of several runs, the weights go on from where the last one left them.
            shards: each worker's records, one per row of its tensors.
            key: 32 secret bytes, for samples and noise.
            observe: is shown everything that is released.
            runs: how often.

        Returns:
            The model as it is in the end.
        """
        if len(shards) != self.workers:
            raise InvalidParameterError(f"shards: need one per worker, got {len(shards)}")

        def work(rank: int, all_reduce: AllReduce | None) -> nn.Module:
            return self._work(rank, all_reduce, trained, shards[rank], key, observe, runs)

        return run_workers(self.workers, work)

    def _work(
        self,
        rank: int,
        all_reduce: AllReduce | None,
        trained: Trained,
        records: tuple[Tensor, ...],
        key: bytes,
        observe: Observer,
        runs: int,
    ) -> nn.Module:
        model = copy.deepcopy(trained.model).train()
        watcher = _Watcher(model, trained.optimizer, self.expected_batch_size / self.max_grad_norm)
        stepper = self.parts.step(
            model,
            watcher,
            trained.loss_fn,
            PrivacySpec(self.mechanism.noise_multiplier, self.max_grad_norm, self.expected_batch_size),
            self.parts.noise(key, rank, self.workers),
            PerformanceFlags(_PHYSICAL_BATCH),
            all_reduce,
        )
        sampler = self.parts.sampler(len(records[0]), self.mechanism.sampling_rate, key, rank)
        try:
            for epoch in range(runs):
                for step in range(self.mechanism.steps):
                    chosen = sampler.sample(epoch, step)
                    stepper.step(tuple(tensor[chosen] for tensor in records), epoch, step)
                    if rank == 0:
                        observe(epoch, step, watcher.released)
        finally:
            stepper.close()
        return model


class _Watcher(torch.optim.Optimizer):
    """Keeps what the step hands to the optimizer, which is all that it releases, and passes it on."""

    released: Tensor

    def __init__(self, model: nn.Module, inner: Optimizer | None, scale: float) -> None:
        self._watched = [p for p in model.parameters() if p.requires_grad]
        super().__init__(self._watched, {})
        self._inner = None if inner is None else inner(model)
        self._scale = scale

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.released = torch.cat([p.grad.flatten() for p in self._watched if p.grad is not None])
        self.released = self.released.double() * self._scale
        if self._inner is not None:
            self._inner.step()
