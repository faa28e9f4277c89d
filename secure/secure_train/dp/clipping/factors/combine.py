"""A parameter that is used several times: the norm of a sum has cross terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secure_train.dp.clipping.factors.base import Factor
from secure_train.dp.clipping.factors.budget import InstantiationBudget
from secure_train.dp.clipping.factors.dense import Dense
from secure_train.dp.clipping.factors.lookup import Lookup
from secure_train.dp.clipping.factors.outer import Outer
from secure_train.dp.clipping.factors.precision import rounding_of, squared_lengths


def combine(uses: Sequence[Factor]) -> Factor:
    """The sum of all uses' per-record gradients.

    Uses of one kind join their positions; a table that is looked up and multiplied by (tied input and output
    embeddings) has its cross term computed from the factors; anything else is written out.
    """
    outers = [use for use in uses if isinstance(use, Outer)]
    lookups = [use for use in uses if isinstance(use, Lookup)]
    if len(uses) == 1:
        return uses[0]
    if len(outers) + len(lookups) == len(uses):
        outer, lookup = _joined_outer(outers), _joined_lookup(lookups)
        if outer is not None and lookup is not None:
            return Tied(outer, lookup)
        return outer or lookup or uses[0]
    total = uses[0].instantiated()
    for use in uses[1:]:
        total = total + use.instantiated()
    return Dense(total)


@dataclass(frozen=True)
class Tied:
    """P_i = Σ_s left_is ⊗ right_is + Σ_t e(index_it) ⊗ gradient_it.

    Attributes:
        outer: the table as a linear map's weight.
        lookup: the table as an embedding.
    """

    outer: Outer
    lookup: Lookup

    def measured(self, budget: InstantiationBudget) -> tuple[Tensor, Factor]:
        """See `Factor`. ⟨outer, lookup⟩ = Σ_st left_s[index_t]·⟨right_s, gradient_t⟩."""
        # Not `measured`: gradients written out would be measured without what `add_to` does to the factors.
        outer = self.outer.squared_norms(InstantiationBudget(budget.left))
        lookup, _ = self.lookup.measured(budget)
        left, right = self.outer.left.double(), self.outer.right.double()
        index = self.lookup.index.unsqueeze(1).expand(-1, left.shape[1], -1)
        products = right @ self.lookup.gradient.double().mT
        cross = torch.linalg.vecdot(left.gather(2, index).flatten(1), products.flatten(1))
        rounding = rounding_of(self.outer.left, right.shape[2] + index.shape[1] * index.shape[2])
        slack = (rounding.products + rounding.operands) * self._length()
        return (outer + lookup + 2 * cross + slack).clamp(min=0), self

    def masked(self, usable: Tensor) -> Tied:
        """See `Factor`."""
        return Tied(self.outer.masked(usable), self.lookup.masked(usable))

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """See `Factor`."""
        self.outer.add_to(total, weights)
        self.lookup.add_to(total, weights)

    def instantiated(self) -> Tensor:
        """See `Factor`."""
        return self.outer.instantiated() + self.lookup.instantiated()

    def _length(self) -> Tensor:
        """2·Σ_s ‖left_s‖‖right_s‖ · Σ_t ‖gradient_t‖, what the rounding of the cross term is relative to."""
        outer = (squared_lengths(self.outer.left) * squared_lengths(self.outer.right)).sqrt().sum(1)
        return 2 * outer * squared_lengths(self.lookup.gradient).sqrt().sum(1)


def _joined_outer(uses: Sequence[Outer]) -> Outer | None:
    if len(uses) < 2:
        return uses[0] if uses else None
    return Outer(torch.cat([u.left for u in uses], dim=1), torch.cat([u.right for u in uses], dim=1))


def _joined_lookup(uses: Sequence[Lookup]) -> Lookup | None:
    if len(uses) < 2:
        return uses[0] if uses else None
    index = torch.cat([use.index for use in uses], dim=1)
    return Lookup(index, torch.cat([use.gradient for use in uses], dim=1), uses[0].rows)
