"""Per-record gradients of a convolution's weight: outer products over output positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secure_train.dp.clipping.factors.base import Factor, zeroed
from secure_train.dp.clipping.factors.budget import SCRATCH_BYTES, InstantiationBudget
from secure_train.dp.clipping.factors.dense import Dense
from secure_train.dp.clipping.factors.outer import Outer, prefers_ghost
from secure_train.dp.clipping.factors.precision import rounding_of, squared_lengths, wide

_CACHED_BYTES = 1 << 24
"""Patches multiplied at a time on a CPU: few enough for caches to hold some of them."""


@dataclass(frozen=True)
class Convolution:
    """The weight of an n-dimensional convolution; patches of the input are formed only when needed.

    Attributes:
        padded: (B, channels, *size), the layer's input after padding.
        gradient: (B, outputs, *positions), of the same dtype.
        kernel: shape of the weight, (outputs, channels / groups, *window).
        stride: by dimension.
        dilation: by dimension.
        groups: the number of groups.
    """

    padded: Tensor
    gradient: Tensor
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def measured(self, budget: InstantiationBudget) -> tuple[Tensor, Factor]:
        """See `Factor`."""
        records = len(self.gradient)
        item = wide(self.gradient[:0]).element_size()
        each = math.prod(self.kernel) * item
        ghost = self.groups == 1 and prefers_ghost(
            self._positions, self.kernel[0], math.prod(self.kernel[1:])
        )
        if not ghost and budget.keep(records * each):
            return Dense(self.instantiated()).measured(budget)
        norms = [part.norms_at_once(ghost=ghost) for part in self._parts(budget)]
        return torch.cat(norms), self

    def masked(self, usable: Tensor) -> Convolution:
        """See `Factor`."""
        return replace(self, padded=zeroed(self.padded, usable), gradient=zeroed(self.gradient, usable))

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """See `Factor`."""
        per_group = total.view(self.groups, -1, math.prod(self.kernel[1:]))
        start = 0
        for part in self._parts(self._scratch):
            count = len(part.gradient)
            left, right = part.operands()
            for group in range(self.groups):
                outer = Outer(left[:, group].mT, right[:, group].mT)
                outer.add_to(per_group[group], weights[start : start + count])
            start += count

    def instantiated(self) -> Tensor:
        """See `Factor`."""
        return torch.cat([part.instantiated_at_once() for part in self._parts(self._scratch)])

    def operands(self) -> tuple[Tensor, Tensor]:
        """(B, groups, outputs / groups, T) and (B, groups, channels / groups x window, T)."""
        patches = self.padded
        window = self.kernel[2:]
        for axis, (size, stride, dilation) in enumerate(zip(window, self.stride, self.dilation, strict=True)):
            patches = patches.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        records, n = len(patches), len(window)
        # Positions last: then what is copied lies side by side in the input.
        patches = patches.movedim(tuple(range(2, 2 + n)), tuple(range(2 + n, 2 + 2 * n)))
        right = patches.reshape(records, self.groups, -1, self._positions)
        left = self.gradient.reshape(records, self.groups, -1, self._positions)
        return left, right

    def instantiated_at_once(self) -> Tensor:
        """All per-record gradients without chunking."""
        left, right = self.operands()
        return (wide(left) @ wide(right).mT).reshape(len(left), *self.kernel)

    def norms_at_once(self, *, ghost: bool) -> Tensor:
        """Squared norms without chunking, covering `add_to`'s rounding."""
        left, right = self.operands()
        if ghost:
            return Outer(left[:, 0].mT, right[:, 0].mT).squared_norms(InstantiationBudget(0))
        gradients = wide(left) @ wide(right).mT
        lengths = (squared_lengths(left.mT) * squared_lengths(right.mT)).sqrt().sum((1, 2))
        rounding = rounding_of(left, self._positions)
        covered = squared_lengths(gradients.flatten(1)) + rounding.products * lengths.square()
        return (covered.sqrt() + rounding.operands * lengths).square()

    @property
    def _scratch(self) -> InstantiationBudget:
        return InstantiationBudget(SCRATCH_BYTES if self.padded.is_cuda else _CACHED_BYTES)

    @property
    def _positions(self) -> int:
        return math.prod(self.gradient.shape[2:])

    def _parts(self, budget: InstantiationBudget) -> Iterator[Convolution]:
        patch = math.prod(self.kernel[1:]) * self.groups * self._positions
        each = (patch + math.prod(self.kernel)) * wide(self.gradient[:0]).element_size()
        for part in budget.chunks(len(self.gradient), each):
            yield replace(self, padded=self.padded[part], gradient=self.gradient[part])
