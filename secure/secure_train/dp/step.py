"""One private step: clip, add this worker's share of the noise, sum over workers, update."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from secure_train.dp.clipping import GhostClipper, LossFunction
from secure_train.dp.errors import InvalidParameterError, NoiseReuseError
from secure_train.dp.keyed import require_position
from secure_train.dp.noise import GaussianNoise

AllReduce = Callable[[list[Tensor]], None]
"""Replaces each tensor, in place, by its sum over all workers; the same bits on every worker."""

_EMPTY_CHAIN = bytes(32)


@dataclass(frozen=True)
class StepDigest:
    """Identifies everything released up to and including one step. Computed from noised values: publishable.

    Attributes:
        epoch: position.
        step: position within the epoch.
        digest: hexadecimal SHA-256 chain value; equal digests mean equal noised gradients at every step so
            far.
    """

    epoch: int
    step: int
    digest: str


class PrivateStep:
    """DP-SGD's step (Abadi et al., CCS 2016) for one of W data-parallel workers.

    Every worker clips its own Poisson sample's gradients and adds N(0, (σC)²/W) *before* anything leaves it;
    the all-reduced sum carries N(0, (σC)²), once. The sum is divided by a public constant, never by the size
    of the batch. Every worker must call `step` at every position, with an empty batch too.

    Formal guarantee: T steps form T adaptive releases of the Poisson-sampled Gaussian mechanism with
    multiplier σ (`accounting.Mechanism`), if inputs come from `PoissonSampler` at that position with the rate
    accounted for.

    A step run again after a crash repeats sample, noise and dropout masks, so its digest must be the one
    recorded before. If it is, nothing new was released and nothing is to be charged. If it is not, the same
    noise was put on two different sums, which can reveal their difference: the caller must stop and start
    over under a new key. Positions must increase within a process; `load_state_dict` sets where to continue
    from.

    Args:
        model: see `GhostClipper`.
        optimizer: holds exactly the model's trainable parameters.
        loss_fn: per-record losses.
        max_grad_norm: clipping norm C.
        noise_multiplier: σ, as accounted for.
        expected_batch_size: public constant: sampling rate x number of records over all workers.
        noise: this worker's share of the noise.
        physical_batch_size: the most records in memory at a time.
        all_reduce: sums over workers; None only if there is one worker.

    Raises:
        InvalidParameterError: parameters are out of range or do not fit each other.
        UnsupportedModel: see `GhostClipper`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: LossFunction,
        *,
        max_grad_norm: float,
        noise_multiplier: float,
        expected_batch_size: float,
        noise: GaussianNoise,
        physical_batch_size: int,
        all_reduce: AllReduce | None = None,
    ) -> None:
        for name, value in (
            ("noise_multiplier", noise_multiplier),
            ("expected_batch_size", expected_batch_size),
        ):
            if not (math.isfinite(value) and value > 0):
                raise InvalidParameterError(f"{name}: must be positive and finite, got {value!r}")
        if (all_reduce is None) != (noise.world_size == 1):
            raise InvalidParameterError(
                "all_reduce: must be given if and only if there are several workers; world_size is "
                f"{noise.world_size}"
            )
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        _require_same_parameters(self._parameters, optimizer)
        self._clipper = GhostClipper(model, max_grad_norm)
        self._optimizer = optimizer
        self._loss_fn = loss_fn
        self._noise_std = float(noise_multiplier) * float(max_grad_norm)
        self._expected_batch_size = float(expected_batch_size)
        self._noise = noise
        self._physical_batch_size = physical_batch_size
        self._all_reduce = all_reduce
        self._chain = _EMPTY_CHAIN
        self._steps = 0
        self._last: tuple[int, int] | None = None

    def step(self, inputs: Tensor, targets: Tensor, epoch: int, step: int) -> StepDigest:
        """Releases one noised gradient sum and applies it.

        Args:
            inputs: this worker's sampled records, shape (B, …), B ≥ 0.
            targets: shape (B, …).
            epoch: position; with `step` selects the noise.
            step: position within the epoch.

        Raises:
            NoiseReuseError: the position is not after the last one.
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
        released = self._noised_sum(inputs, targets, epoch, step)
        self._chain = _extend(self._chain, epoch, step, released)
        self._steps += 1
        self._apply(released)
        return StepDigest(epoch, step, self._chain.hex())

    def state_dict(self) -> dict[str, object]:
        """JSON-able position and digest chain; to be stored with the weights and the optimizer's state."""
        return {
            "chain": self._chain.hex(),
            "steps": self._steps,
            "last": None if self._last is None else list(self._last),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continues from a stored state; the weights and the optimizer's state must be of the same moment.

        Raises:
            InvalidParameterError: the state is not one of ours.
        """
        chain, steps, last = state.get("chain"), state.get("steps"), state.get("last")
        if not (isinstance(chain, str) and re.fullmatch("[0-9a-f]{64}", chain)):
            raise InvalidParameterError("state: chain is missing or malformed; restore another checkpoint")
        if not (isinstance(steps, int) and steps >= 0):
            raise InvalidParameterError("state: steps is missing or malformed; restore another checkpoint")
        if last is not None:
            if not (isinstance(last, list | tuple) and len(last) == 2):
                raise InvalidParameterError("state: last is malformed; restore another checkpoint")
            require_position(epoch=last[0], step=last[1])
        self._chain, self._steps = bytes.fromhex(chain), steps
        self._last = None if last is None else (last[0], last[1])

    def close(self) -> None:
        """Removes the hooks from the model."""
        self._clipper.close()

    def _noised_sum(self, inputs: Tensor, targets: Tensor, epoch: int, step: int) -> Tensor:
        devices = {p.device.index for p in self._parameters.values() if p.is_cuda}
        with torch.random.fork_rng(devices=[d for d in devices if d is not None]):
            torch.manual_seed(self._noise.model_seed(epoch, step))
            clipped = self._clipper.sum(
                self._loss_fn, inputs, targets, physical_batch_size=self._physical_batch_size
            )
        shares = self._noise.like(clipped.gradients, self._noise_std, epoch, step)
        flat = torch.cat([(g + n).flatten() for g, n in zip(clipped.gradients.values(), shares, strict=True)])
        if self._all_reduce is not None:
            self._all_reduce([flat])
        return flat

    def _apply(self, released: Tensor) -> None:
        mean = released / self._expected_batch_size
        parts = torch.split(mean, [p.numel() for p in self._parameters.values()])
        for parameter, part in zip(self._parameters.values(), parts, strict=True):
            parameter.grad = part.view_as(parameter)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def sum_over_workers(group: torch.distributed.ProcessGroup | None = None) -> AllReduce:
    """An all-reduce SUM over a process group (the default group if None). The group must exist already."""

    def all_reduce(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.SUM, group=group)

    return all_reduce


def _extend(chain: bytes, epoch: int, step: int, released: Tensor) -> bytes:
    """SHA-256(chain || epoch || step || released), integers as 8 bytes big endian, floats little endian."""
    values = released.detach().cpu().contiguous().numpy()
    position = epoch.to_bytes(8, "big") + step.to_bytes(8, "big")
    return hashlib.sha256(
        chain + position + values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    ).digest()


def _require_same_parameters(named: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    wanted = {id(p): name for name, p in named.items()}
    if held != wanted.keys():
        missing = sorted(wanted[key] for key in wanted.keys() - held)
        raise InvalidParameterError(
            "optimizer: must hold exactly the model's trainable parameters; missing: "
            f"{missing or 'none'}, foreign or frozen: {len(held - wanted.keys())}"
        )
