"""Per-record gradients that are written out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from secure_train.dp.clipping.factors.base import Factor, zeroed
from secure_train.dp.clipping.factors.budget import InstantiationBudget
from secure_train.dp.clipping.factors.precision import squared_lengths, wide


@dataclass(frozen=True)
class Dense:
    """One gradient tensor for each record.

    Attributes:
        gradients: (B, *parameter.shape).
    """

    gradients: Tensor

    def measured(self, budget: InstantiationBudget) -> tuple[Tensor, Factor]:
        """See `Factor`."""
        return squared_lengths(self.gradients.flatten(1)), self

    def masked(self, usable: Tensor) -> Dense:
        """See `Factor`."""
        return Dense(zeroed(self.gradients, usable))

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """See `Factor`."""
        gradients = wide(self.gradients).flatten(1)
        total.view(-1).addmv_(gradients.mT, weights.to(gradients.dtype))

    def instantiated(self) -> Tensor:
        """See `Factor`."""
        return wide(self.gradients)
