"""Per-record gradients that are sums of outer products: the weights of linear maps.

The norm of Σ_t l_t ⊗ r_t is had from Gram matrices without forming it (ghost norm: Li et al., "Large Language
Models Can Be Strong Differentially Private Learners", ICLR 2022), and the weighted sum over records is one
matrix product (book-keeping: Bu et al., "Differentially Private Optimization on Large Model at Small Cost",
ICML 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_train.dp.clipping.factors.base import Factor, zeroed
from secure_train.dp.clipping.factors.budget import InstantiationBudget, in_scratch
from secure_train.dp.clipping.factors.dense import Dense
from secure_train.dp.clipping.factors.precision import (
    add_weighted_product,
    gram,
    rounding_of,
    squared_lengths,
    wide,
)

# What moving one number to memory and back costs, in floating-point operations.
_TRAFFIC = 40


@dataclass(frozen=True)
class Outer:
    """P_i = Σ_t left_it ⊗ right_it.

    Attributes:
        left: (B, T, m).
        right: (B, T, n), of the same dtype; the parameter has shape (m, n).
    """

    left: Tensor
    right: Tensor

    def measured(self, budget: InstantiationBudget) -> tuple[Tensor, Factor]:
        """See `Factor`. A product of norms for T = 1; else ghost norm or instantiation, the cheaper."""
        if not self._ghostly and budget.keep(len(self.left) * self._bytes_each):
            return Dense(self.instantiated()).measured(budget)
        return self.squared_norms(budget), self

    def squared_norms(self, budget: InstantiationBudget) -> Tensor:
        """Squared norms of what `add_to` adds, including its rounding, (B,), float64.

        Terms that cancel count for 2^-23 of their squared length, however the norm was computed: `add_to`
        sums them beside other records' in float32.
        """
        records, steps, m = self.left.shape
        n = self.right.shape[2]
        rounding = rounding_of(self.left, m + n + steps**2)
        if steps == 1:
            norms = squared_lengths(self.left[:, 0]) * squared_lengths(self.right[:, 0])
            return norms * (1 + rounding.operands) ** 2
        if self._ghostly:
            parts = [
                Outer(self.left[part], self.right[part])._ghost()
                for part in in_scratch(records, 16 * steps**2 + 8 * steps * (m + n))
            ]
            norms, lengths = (torch.cat(values) for values in zip(*parts, strict=True))
        else:
            norms = torch.cat(
                [
                    squared_lengths(Outer(self.left[part], self.right[part]).instantiated().flatten(1))
                    for part in budget.chunks(records, self._bytes_each)
                ]
            )
            lengths = (squared_lengths(self.left) * squared_lengths(self.right)).sqrt().sum(1)
        covered = norms + rounding.products * lengths.square()
        return (covered.sqrt() + rounding.operands * lengths).square()

    def masked(self, usable: Tensor) -> Outer:
        """See `Factor`."""
        return Outer(zeroed(self.left, usable), zeroed(self.right, usable))

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """See `Factor`."""
        add_weighted_product(total, self.left, self.right, weights)

    def instantiated(self) -> Tensor:
        """See `Factor`."""
        return wide(self.left).mT @ wide(self.right)

    def _ghost(self) -> tuple[Tensor, Tensor]:
        """Squared norms, raised to cover what underflows; and Σ_t ‖l_t‖‖r_t‖, both (B,), float64."""
        left, right = gram(self.left), gram(self.right)
        steps, tiny = left.shape[1], torch.finfo(left.dtype).tiny
        diagonals = [g.diagonal(dim1=1, dim2=2).double() for g in (left, right)]
        # Scaled to 1, products neither overflow nor underflow where the norm does not.
        scales = [d.amax(1).clamp(min=tiny) for d in diagonals]
        for g, scale in zip((left, right), scales, strict=True):
            g.mul_(scale.reciprocal().to(g.dtype).view(-1, 1, 1))
        product = torch.linalg.vecdot(left.flatten(1), right.flatten(1)).double() * scales[0] * scales[1]
        lost = [tiny * operand.shape[2] for operand in (self.left, self.right)]
        lengths = ((diagonals[0] + lost[0]) * (diagonals[1] + lost[1])).sqrt().sum(1)
        # |⟨x_s, x_t⟩| ≤ ‖x_s‖‖x_t‖ bounds what underflows.
        underflow = steps * (lost[0] * diagonals[1].sum(1) + lost[1] * diagonals[0].sum(1))
        return product.clamp(min=0) + underflow, lengths

    @property
    def _ghostly(self) -> bool:
        _, steps, m = self.left.shape
        return steps == 1 or prefers_ghost(steps, m, self.right.shape[2])

    @property
    def _bytes_each(self) -> int:
        return self.left.shape[2] * self.right.shape[2] * wide(self.left[:0]).element_size()


def prefers_ghost(steps: int, m: int, n: int) -> bool:
    """Whether Gram matrices cost less than writing gradients out, per record.

    Instantiation saves the weighted product (2Tmn) where the gradients can be kept, and has to move them.
    """
    ghost = 2 * steps**2 * (m + n) + 2 * _TRAFFIC * steps**2 + 2 * steps * m * n
    return ghost <= 2 * steps * m * n + 3 * _TRAFFIC * m * n
