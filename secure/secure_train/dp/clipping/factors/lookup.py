"""Per-record gradients of an embedding's table: rows that were looked up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_train.dp.clipping.factors.base import Factor, zeroed
from secure_train.dp.clipping.factors.budget import InstantiationBudget, in_scratch
from secure_train.dp.clipping.factors.precision import gram, rounding_of, squared_lengths, wide


@dataclass(frozen=True)
class Lookup:
    """P_i = Σ_t e(index_it) ⊗ gradient_it, where e(k) is the k-th unit vector.

    Attributes:
        index: (B, T), integers in 0 … rows - 1.
        gradient: (B, T, n).
        rows: of the table.
    """

    index: Tensor
    gradient: Tensor
    rows: int

    def measured(self, budget: InstantiationBudget) -> tuple[Tensor, Factor]:
        """See `Factor`. Positions of a record that look up the same row add up before the norm is taken."""
        lengths = squared_lengths(self.gradient)
        if self.index.shape[1] == 1:
            return lengths[:, 0], self
        records, steps = self.index.shape
        each = 17 * steps**2 + 8 * steps * self.gradient.shape[2]
        product = torch.cat(
            [_coinciding(self.index[part], self.gradient[part]) for part in in_scratch(records, each)]
        )
        rounding = rounding_of(self.gradient, self.gradient.shape[2] + steps**2)
        slack = rounding.products * lengths.sqrt().sum(1).square()
        return product.clamp(min=0) + slack, self

    def masked(self, usable: Tensor) -> Lookup:
        """See `Factor`."""
        return Lookup(self.index, zeroed(self.gradient, usable), self.rows)

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """See `Factor`."""
        gradient = wide(self.gradient)
        weighted = gradient * weights.to(gradient.dtype).view(-1, 1, 1)
        total.index_add_(0, self.index.flatten(), weighted.flatten(0, 1))

    def instantiated(self) -> Tensor:
        """See `Factor`."""
        gradient = wide(self.gradient)
        dense = gradient.new_zeros(len(gradient), self.rows, gradient.shape[2])
        return dense.scatter_add_(1, self.index.unsqueeze(2).expand(gradient.shape), gradient)


def _coinciding(index: Tensor, gradient: Tensor) -> Tensor:
    """Σ_st [index_s = index_t]·⟨gradient_s, gradient_t⟩, (B,), float64."""
    same = index.unsqueeze(2) == index.unsqueeze(1)
    return gram(gradient).masked_fill_(~same, 0).sum((1, 2)).double()
