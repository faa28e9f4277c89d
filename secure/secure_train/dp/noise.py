"""Gaussian noise, a keyed share per worker, drawn so that the shares' sum has the accounted deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from secure_train.dp.errors import InvalidParameterError
from secure_train.dp.keyed import Words, derive, require_key, require_position


@dataclass(frozen=True)
class GaussianNoise:
    """One worker's share of the noise of each step.

    Every share is N(0, std_total²/W) per coordinate and the W shares are independent, hence their *sum* is
    N(0, std_total²), the noise that the accountant is told of. The sum must be formed before anything
    non-linear (compression, clipping, rounding per worker) happens: a single share protects less by √W.

    The noise is a pure function of (key, rank, world_size, std_total, epoch, step) and of the shapes: a step
    run again after a crash gets the same noise. The total deviation and the number of workers are part of the
    derivation, so that no two differently scaled releases share a normal vector (their difference would
    cancel the noise). Releasing two *different* sums at one position would cancel it too; `PrivateStep`
    refuses that within a process, its digest chain reveals it across processes.

    Float caveat: uniforms of 53 bits go through Box-Muller in float64 and are then rounded to the tensor's
    dtype. Such a Gaussian is not exactly Gaussian (tails end at 8.6 standard deviations), and its low-order
    bits can in principle identify the noiseless value (Mironov, CCS 2012; stated there for Laplace). The
    guarantee is for real arithmetic.

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

    def like(
        self,
        tensors: Mapping[str, torch.Tensor] | Sequence[torch.Tensor],
        std_total: float,
        epoch: int,
        step: int,
    ) -> list[torch.Tensor]:
        """This worker's share for one step: tensors of the same shapes, dtypes and devices, in order.

        Args:
            tensors: what the noise will be added to; only shape, dtype and device are read.
            std_total: the standard deviation, per coordinate, of the sum over all workers (σ·C).
            epoch: position.
            step: position within the epoch.

        Raises:
            InvalidParameterError: std_total is not a positive finite number, or a tensor is not floating
                point.
        """
        require_position(epoch=epoch, step=step)
        if not (math.isfinite(std_total) and std_total > 0):
            raise InvalidParameterError(f"std_total: must be positive and finite, got {std_total!r}")
        words = Words(
            derive(
                self.key,
                "gaussian",
                rank=self.rank,
                world_size=self.world_size,
                std_total=float(std_total),
                epoch=epoch,
                step=step,
            )
        )
        share = float(std_total) / math.sqrt(self.world_size)
        templates = list(tensors.values()) if isinstance(tensors, Mapping) else list(tensors)
        return [_standard_normal(words, template, share) for template in templates]

    def model_seed(self, epoch: int, step: int) -> int:
        """A 63-bit seed for the model's own randomness (dropout) at this step, distinct for every rank.

        Not privacy noise: it only makes a step run again repeat its dropout masks, and so its value.
        """
        require_position(epoch=epoch, step=step)
        derived = derive(self.key, "model-seed", rank=self.rank, epoch=epoch, step=step)
        return int.from_bytes(derived[:8], "big") >> 1


def _standard_normal(words: Words, template: torch.Tensor, std: float) -> torch.Tensor:
    if not template.is_floating_point():
        raise InvalidParameterError(f"tensors: noise needs floating-point tensors, got {template.dtype}")
    pairs = (template.numel() + 1) // 2
    # 53 bits are what a float64 significand holds; the added one keeps log() away from zero.
    bits = (words.take(2 * pairs) >> np.uint64(11)).astype(np.int64) + 1
    uniform = torch.from_numpy(bits).double().mul_(2.0**-53).view(2, pairs)
    radius = uniform[0].log().mul_(-2).sqrt_().mul_(std)
    angle = uniform[1].mul(2 * math.pi)
    normal = torch.cat([angle.cos().mul_(radius), angle.sin().mul_(radius)])[: template.numel()]
    return normal.view(template.shape).to(device=template.device, dtype=template.dtype)
