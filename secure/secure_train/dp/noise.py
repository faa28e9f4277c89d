"""Gaussian noise, a keyed share per worker, drawn so that the shares' sum has the accounted deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.gaussian import add_gaussian
from secure_train.dp.keyed import derive, require_key, require_position


class Noise(Protocol):
    """One worker's share of the noise of every step, as a pure function of a secret key and the position."""

    @property
    def world_size(self) -> int:
        """The number W of workers whose shares are summed."""

    def add_to(self, total: torch.Tensor, std_total: float, epoch: int, step: int) -> None:
        """Add this worker's share to a flat tensor, in place."""

    def model_seed(self, epoch: int, step: int) -> int:
        """A seed for the model's own randomness at this step; see `GaussianNoise.model_seed`."""


@dataclass(frozen=True)
class GaussianNoise:
    """One worker's share of the noise of each step.

    Every share is N(0, std_total²/W) per coordinate and the W shares are independent, hence their *sum* is
    N(0, std_total²), the noise that the accountant is told of. The sum must be formed before anything
    non-linear (compression, clipping, rounding per worker) happens: a single share protects less by √W.

    The noise is a pure function of (key, rank, world_size, std_total, epoch, step) and of the kind of device:
    a step run again after a crash gets the same noise. The total deviation and the number of workers are part
    of the derivation, so that no two differently scaled releases share a normal vector (their difference
    would cancel the noise). Releasing two *different* sums at one position would cancel it too; `PrivateStep`
    refuses that within a process, whoever stores its results must across processes.

    Float caveat: see `gaussian.add_gaussian`. The guarantee is for real arithmetic; `DiscreteGaussianNoise`
    has none of it.

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
        require_position(epoch=epoch, step=step)
        if not (math.isfinite(std_total) and std_total > 0):
            raise InvalidParameterError(f"std_total: must be positive and finite, got {std_total!r}")
        derived = derive(
            self.key,
            "gaussian",
            rank=self.rank,
            world_size=self.world_size,
            std_total=float(std_total),
            epoch=epoch,
            step=step,
        )
        add_gaussian(total, derived, float(std_total) / math.sqrt(self.world_size))

    def like(
        self, tensors: Mapping[str, torch.Tensor], std_total: float, epoch: int, step: int
    ) -> list[torch.Tensor]:
        """TO BE REMOVED once PrivateStep uses add_to."""
        flat = torch.zeros(sum(t.numel() for t in tensors.values()), dtype=next(iter(tensors.values())).dtype)
        self.add_to(flat, std_total, epoch, step)
        parts = torch.split(flat, [t.numel() for t in tensors.values()])
        return [p.view_as(t).to(t.device) for p, t in zip(parts, tensors.values(), strict=True)]

    def model_seed(self, epoch: int, step: int) -> int:
        """A 63-bit seed for the model's own randomness (dropout) at this step, distinct for every rank.

        Not privacy noise: it only makes a step run again repeat its dropout masks, and so its value.
        """
        require_position(epoch=epoch, step=step)
        derived = derive(self.key, "model-seed", rank=self.rank, epoch=epoch, step=step)
        return int.from_bytes(derived[:8], "big") >> 1
