"""The noise of each step, a keyed share per worker, drawn so that the sum has the accounted deviation.

Every share has variance std_total²/W per coordinate and the W shares are independent, hence their *sum* has
std_total², the noise that the accountant is told of. The sum must be formed before anything non-linear
(compression, clipping, rounding per worker) happens: a single share protects less by √W.

The noise is a pure function of (key, rank, world_size, std_total, epoch, step) and of the kind of device: a
step run again after a crash gets the same noise. The total deviation and the number of workers are part of
the derivation, so that no two differently scaled releases share a variate (their difference would cancel the
noise). Releasing two *different* sums at one position would cancel it too; `PrivateStep` refuses that within
a process, whoever stores its results must across processes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch

from secure_train.dp.discrete import discrete_gaussian
from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.gaussian import add_gaussian
from secure_train.dp.keyed import Words, derive, require_key, require_position

_CELLS = 1 << 20
"""A share's standard deviation is at least this many cells of the discrete Gaussian's grid, and below twice
as many."""
_EXACT = 1 << 53
"""Whole numbers up to here are exact in float64."""


@dataclass(frozen=True)
class Noise(ABC):
    """One worker's share of the noise of every step.

    Attributes:
        key: 32 secret bytes, the same for the whole job.
        rank: this worker's number in 0 … world_size - 1.
        world_size: the number W of workers whose shares are summed.

    Raises:
        InvalidParameterError: a parameter is out of range.
    """

    key: bytes = field(repr=False)
    rank: int
    world_size: int

    def __post_init__(self) -> None:
        require_key(self.key)
        require_position(rank=self.rank, world_size=self.world_size)
        if self.rank >= self.world_size:
            raise InvalidParameterError(
                f"rank: must be below world_size ({self.world_size}), got {self.rank}"
            )

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype | None:
        """What the sums must be held in for the guarantee; None: in the parameters' dtype."""

    @abstractmethod
    def add_to(self, total: torch.Tensor, std_total: float, epoch: int, step: int) -> None:
        """Add this worker's share for one step, in place.

        Args:
            total: what is to be released, flat and contiguous, float32 or float64, on any device.
            std_total: the standard deviation, per coordinate, of the sum over all workers (σ·C).
            epoch: position.
            step: position within the epoch.

        Raises:
            InvalidParameterError: std_total is not a positive finite number, or the tensor is not such a one.
        """

    def model_seed(self, epoch: int, step: int) -> int:
        """A 63-bit seed for the model's own randomness (dropout) at this step, distinct for every rank.

        Not privacy noise: it only makes a step run again repeat its dropout masks, and so its value.
        """
        require_position(epoch=epoch, step=step)
        derived = derive(self.key, "model-seed", rank=self.rank, epoch=epoch, step=step)
        return int.from_bytes(derived[:8], "big") >> 1

    def _stream(self, purpose: str, std_total: float, epoch: int, step: int) -> bytes:
        require_position(epoch=epoch, step=step)
        if not (math.isfinite(std_total) and std_total > 0):
            raise InvalidParameterError(f"std_total: must be positive and finite, got {std_total!r}")
        return derive(
            self.key,
            purpose,
            rank=self.rank,
            world_size=self.world_size,
            std_total=float(std_total),
            epoch=epoch,
            step=step,
        )


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """Gaussian noise in the sum's own precision: fast, with the float caveat of `gaussian.add_gaussian`.

    The guarantee is for real arithmetic; `DiscreteGaussianNoise` draws exactly.
    """

    @property
    def dtype(self) -> torch.dtype | None:
        """Any: None."""
        return None

    def add_to(self, total: torch.Tensor, std_total: float, epoch: int, step: int) -> None:
        """See `Noise.add_to`."""
        derived = self._stream("gaussian", std_total, epoch, step)
        add_gaussian(total, derived, float(std_total) / math.sqrt(self.world_size))


@dataclass(frozen=True)
class DiscreteGaussianNoise(Noise):
    """Exact noise on a public grid: what is released is a whole number of cells.

    Exact from the sum onwards. The sum itself was added up in the parameters' dtype, where a record also
    shifts how the others' sum rounds; models in float64 make that negligible.

    A worker's sum is rounded to a grid of 2^k and a discrete Gaussian (Canonne et al., NeurIPS 2020) of 2^20
    to 2^21 cells is added in integers. All numbers, and their sum over the workers, are exact in float64, so
    no low-order bit tells more than the mechanism does. The grid follows from std_total and W alone.

    Rounding moves neighbouring sums apart by at most √n cells (n coordinates) on top of C; the deviation is
    raised in that proportion, so the noise multiplier that was accounted for still holds. A discrete Gaussian
    has no more zero-concentrated privacy loss than the continuous one (theorem 4 there); at this resolution
    its hockey-stick divergence is the continuous one's up to the error of a Riemann sum of 2^20 cells, and a
    sum of W shares is a discrete Gaussian up to e^(-10^12) (Kairouz, Liu, Steinke, ICML 2021, theorem 1).

    Costs about a microsecond a coordinate, on the CPU whatever the device.

    Attributes:
        sensitivity: the L2 norm C that one record moves a sum by, before rounding.
    """

    sensitivity: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.sensitivity) and self.sensitivity > 0):
            raise InvalidParameterError(f"sensitivity: must be positive and finite, got {self.sensitivity!r}")

    @property
    def dtype(self) -> torch.dtype | None:
        """float64: every whole number of cells is exact in it."""
        return torch.float64

    def add_to(self, total: torch.Tensor, std_total: float, epoch: int, step: int) -> None:
        """See `Noise.add_to`. Coordinates too large for the grid are clamped, which is never expected."""
        derived = self._stream("discrete-gaussian", std_total, epoch, step)
        if total.dtype != torch.float64 or total.dim() != 1:
            raise InvalidParameterError(
                f"total: discrete noise needs a flat float64 tensor, got {total.dtype} of shape "
                f"{tuple(total.shape)}"
            )
        cell, scale = self.grid(std_total, total.numel())
        drawn = discrete_gaussian(Words(derived), total.numel(), scale)
        # A clamp moves no two sums further apart, and keeps the sum of all workers below 2^53.
        most = _EXACT // (2 * self.world_size)
        cells = (total / cell).round_().clamp_(-most, most)
        total.copy_(cells.add_(torch.from_numpy(drawn).to(total.device, torch.float64)).mul_(cell))

    def grid(self, std_total: float, coordinates: int) -> tuple[float, int]:
        """The cell (a power of two) and the share's scale in cells.

        Raises:
            InvalidParameterError: so many coordinates that rounding would dominate the noise.
        """
        share = float(std_total) / math.sqrt(self.world_size)
        cell = 2.0 ** (math.floor(math.log2(share)) - int(math.log2(_CELLS)))
        rounding = cell * math.sqrt(coordinates) / self.sensitivity
        if rounding > 0.5:
            raise InvalidParameterError(
                f"total: {coordinates} coordinates are too many for discrete noise at this deviation; use "
                "GaussianNoise"
            )
        return cell, math.ceil(share * (1 + rounding) / cell)
