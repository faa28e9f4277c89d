"""Records whose gradients are chosen: the strongest attacker, who controls the gradients themselves.

The loss of a record is a linear function of the weights, so its gradient is the record itself, whatever the
weights are. A record that is longer than C is clipped to it, and enters the sum as C in its own direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secure_train.dp.audit.subject import Trained

_OVERSHOOT = 10.0


def linear_model(coordinates: int) -> Trained:
    """A model with that many weights whose per-record gradients are the records; weights stay zero."""
    model = nn.Linear(coordinates, 1, bias=False)
    nn.init.zeros_(model.weight)
    return Trained(model, _losses)


def directions(chosen: Tensor, coordinates: int, max_grad_norm: float) -> tuple[Tensor]:
    """Records that each point along one coordinate and are longer than C, so that clipping has to act.

    Args:
        chosen: int64, shape (B,), the coordinate of each.
        coordinates: n.
        max_grad_norm: C.

    Returns:
        One tensor, shape (B, n).
    """
    return (nn.functional.one_hot(chosen, coordinates).float() * (_OVERSHOOT * max_grad_norm),)


def nothing(records: int, coordinates: int) -> tuple[Tensor]:
    """Records whose gradients are zero."""
    return (torch.zeros(records, coordinates),)


def _losses(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    losses: Tensor = model(batch[0]).squeeze(1)
    return losses
