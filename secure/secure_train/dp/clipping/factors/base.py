"""A parameter's per-record gradients, in whatever form they are cheapest."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from secure_train.dp.clipping.factors.budget import InstantiationBudget


class Factor(Protocol):
    """The gradients P_1 … P_B of one parameter, one for each record, perhaps never written out.

    Contract: `add_to` adds Σ_i w_i·P_i, up to rounding, and `measured` bounds ‖P_i‖ *including* the rounding
    that `add_to` commits on record i's part. So weights of at most C/‖P_i‖ keep each part below C.
    """

    def measured(self, budget: InstantiationBudget) -> tuple[Tensor, Factor]:
        """Squared L2 norms, (B,), float64, and the form that is cheapest to sum up.

        A record whose norm cannot be told (overflow, not finite) gets inf or NaN.
        """

    def masked(self, usable: Tensor) -> Factor:
        """The same with zeros for the records that are False in `usable`, (B,)."""

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """total += Σ_i w_i·P_i in place; `total` has the parameter's shape, `weights` (B,)."""

    def instantiated(self) -> Tensor:
        """All of them, (B, *parameter.shape), at least float32."""


def zeroed(values: Tensor, usable: Tensor) -> Tensor:
    """`values`, (B, …), with zeros for unusable records: 0·NaN would be NaN."""
    return values.masked_fill(~usable.view(-1, *[1] * (values.dim() - 1)), 0)
