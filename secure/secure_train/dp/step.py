"""One private step: clip, add this worker's share of the noise, sum over workers, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from secure_train.dp.clipping import Batch, Clipper, Clipping, LossFunction, PerformanceFlags
from secure_train.dp.errors import InvalidParameterError, NoiseReuseError
from secure_train.dp.keyed import require_position
from secure_train.dp.noise import Noise

AllReduce = Callable[[list[Tensor]], None]
"""Replaces each tensor, in place, by its sum over all workers; the same bits on every worker."""


@dataclass(frozen=True)
class PrivacySpec:
    """What the guarantee depends on.

    Attributes:
        noise_multiplier: σ, as accounted for; the noise on the sum has deviation σ·C per coordinate.
        max_grad_norm: clipping norm C, the sensitivity of the sum under add-or-remove-one.
        expected_batch_size: public constant by which sums are divided: sampling rate x number of records over
            all workers. Never the size of a batch.
        clipping: how a record's gradient is scaled to at most C.

    Raises:
        InvalidParameterError: a value is out of range.
    """

    noise_multiplier: float
    max_grad_norm: float
    expected_batch_size: float
    clipping: Clipping = Clipping.FLAT

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "max_grad_norm", "expected_batch_size"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidParameterError(f"{name}: must be positive and finite, got {value!r}")


class PrivateStep:
    """DP-SGD's step (Abadi et al., CCS 2016) for one of W data-parallel workers.

    Every worker clips its own Poisson sample's gradients and adds N(0, (σC)²/W) *before* anything leaves it;
    the all-reduced sum carries N(0, (σC)²), once. The sum is divided by a public constant, never by the size
    of the batch. Every worker must call `step` at every position, with an empty batch too.

    Formal guarantee: T steps form T adaptive releases of the Poisson-sampled Gaussian mechanism with
    multiplier σ (`accounting.Mechanism`), if batches come from `PoissonSampler` at that position with the
    rate accounted for.

    A step run again after a crash repeats sample, noise and dropout masks. Where it thereby gives the same
    weights, nothing new was released. Where it does not, the same noise was put on two different sums, which
    can reveal their difference: whoever stores weights durably must compare, and start over under a new noise
    epoch. Positions must increase within a process; `load_state_dict` sets where to continue from.

    Communication is one all-reduce of the noised sum, after the backward pass: with flat clipping no
    parameter's sum is known before the last layer's norms are, so it cannot overlap with it.

    Args:
        model: see `Clipper`. Of a `DistributedDataParallel` the module is taken, and its process group for
            the sum over workers; its own gradient reduction is not used.
        optimizer: holds exactly the model's trainable parameters.
        loss_fn: (model, batch) to per-record losses.
        spec: the guarantee.
        noise: this worker's share of the noise.
        flags: time and memory.
        all_reduce: sums over workers; None only if there is one worker, or the model brings its group.

    Raises:
        InvalidParameterError: arguments do not fit each other.
        UnsupportedModel: see `Clipper`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: LossFunction,
        spec: PrivacySpec,
        noise: Noise,
        flags: PerformanceFlags = PerformanceFlags(),  # noqa: B008  (frozen)
        all_reduce: AllReduce | None = None,
    ) -> None:
        if isinstance(model, DistributedDataParallel):
            group = model.process_group
            if noise.world_size != group.size():
                raise InvalidParameterError(
                    f"noise: is a share of {noise.world_size}, but the model's process group has "
                    f"{group.size()} workers"
                )
            model, all_reduce = model.module, all_reduce or sum_over_workers(group)
        elif (all_reduce is None) != (noise.world_size == 1):
            raise InvalidParameterError(
                "all_reduce: must be given if and only if there are several workers; world_size is "
                f"{noise.world_size}"
            )
        self._model = model
        self._clipper = Clipper(model, spec.max_grad_norm, clipping=spec.clipping, flags=flags)
        self._parameters = self._clipper.parameters
        _require_same_parameters(self._parameters, optimizer)
        self._optimizer = optimizer
        self._loss_fn = loss_fn
        self._spec = spec
        self._noise = noise
        self._all_reduce = all_reduce
        self._last: tuple[int, int] | None = None
        sizes = [p.numel() for p in self._parameters.values()]
        first = next(iter(self._parameters.values()))
        self._flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        self._parts = {
            name: part.view(p.shape)
            for (name, p), part in zip(self._parameters.items(), torch.split(self._flat, sizes), strict=True)
        }

    def step(self, batch: Batch, epoch: int, step: int) -> None:
        """Releases one noised gradient sum and applies it.

        Args:
            batch: this worker's sampled records, B ≥ 0 of them along each tensor's first dimension.
            epoch: position; with `step` selects the noise.
            step: position within the epoch.

        Raises:
            NoiseReuseError: the position is not after the last one.
            InvalidParameterError: see `Clipper.sum`.
            UnsupportedModel: see `Clipper.sum`.
        """
        require_position(epoch=epoch, step=step)
        if self._last is not None and (epoch, step) <= self._last:
            raise NoiseReuseError(
                f"epoch {epoch}, step {step} is not after epoch {self._last[0]}, step {self._last[1]}, "
                "which was released already; the same noise on another sum would cancel out. Load an earlier "
                "state to resume"
            )
        # Recorded first: a step that fails half-way may have let its value escape to other workers.
        self._last = (epoch, step)
        self._flat.zero_()
        with torch.random.fork_rng(devices=self._cuda_devices()):
            self._seed(self._noise.model_seed(epoch, step))
            self._clipper.add_to(self._parts, self._loss_fn, batch)
        # Exact noise needs sums that hold whole numbers exactly until the workers' shares are added up.
        released = self._flat if self._noise.dtype is None else self._flat.to(self._noise.dtype)
        self._noise.add_to(released, self._spec.noise_multiplier * self._spec.max_grad_norm, epoch, step)
        if self._all_reduce is not None:
            self._all_reduce([released])
        self._apply(released)

    def state_dict(self) -> dict[str, object]:
        """JSON-able position; to be stored with the weights and the optimizer's state."""
        return {"last": None if self._last is None else list(self._last)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continues from a stored state; the weights and the optimizer's state must be of the same moment.

        Raises:
            InvalidParameterError: the state is not one of ours.
        """
        last = state.get("last", ())
        if last is not None:
            if not (isinstance(last, list | tuple) and len(last) == 2):
                raise InvalidParameterError("state: last is missing or malformed; restore another checkpoint")
            require_position(epoch=last[0], step=last[1])
        self._last = None if last is None else (last[0], last[1])

    def close(self) -> None:
        """Removes the hooks from the model."""
        self._clipper.close()

    def _seed(self, seed: int) -> None:
        # `torch.manual_seed` formats a stack trace at every call.
        torch.default_generator.manual_seed(seed)
        if self._flat.is_cuda:
            torch.cuda.manual_seed(seed)

    def _cuda_devices(self) -> list[int]:
        return [self._flat.device.index] if self._flat.is_cuda else []

    def _apply(self, released: Tensor) -> None:
        torch.div(released, self._spec.expected_batch_size, out=self._flat)
        for name, parameter in self._parameters.items():
            parameter.grad = self._parts[name]
        self._optimizer.step()
        # The buffer takes the next sum, which must not be seen before it is noised.
        self._optimizer.zero_grad(set_to_none=True)


def sum_over_workers(group: torch.distributed.ProcessGroup | None = None) -> AllReduce:
    """An all-reduce SUM over a process group (the default group if None). The group must exist already."""

    def all_reduce(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.SUM, group=group)

    return all_reduce


def _require_same_parameters(named: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    wanted = {id(p): name for name, p in named.items()}
    if held != wanted.keys():
        missing = sorted(wanted[key] for key in wanted.keys() - held)
        raise InvalidParameterError(
            "optimizer: must hold exactly the model's trainable parameters; missing: "
            f"{missing or 'none'}, foreign or frozen: {len(held - wanted.keys())}"
        )
