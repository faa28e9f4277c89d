"""The first batch is compared with plain autograd: the one check that no wrong rule or hidden use escapes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secure_train.dp.clipping.factors import Factor
from secure_train.dp.errors import UnsupportedModel

VERIFIED_RECORDS = 4
_TOLERANCE = 0.01
_TOLERANCE_AUTOCAST = 0.1


def verify(
    losses: Tensor,
    factors: Mapping[str, Factor],
    squared_norms: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    max_grad_norm: float,
    *,
    autocast: bool,
) -> int:
    """Compare the gradients and norms of a few records with those of autograd on the same graph.

    Records whose loss or gradient is not finite tell nothing and are passed over. Returns how many were
    compared.

    Args:
        losses: (B,), their graph still there.
        factors: per-record gradients as the rules have them.
        squared_norms: (B,), as measured.
        parameters: the trainable ones.
        max_grad_norm: C, the scale below which differences do not matter.
        autocast: whether the graph is of reduced precision, which autograd's own gradients suffer from.

    Raises:
        UnsupportedModel: names the parameters whose gradients differ.
    """
    tolerance = _TOLERANCE_AUTOCAST if autocast else _TOLERANCE
    weights = torch.zeros_like(losses)
    compared = 0
    for index in losses.detach().isfinite().nonzero().flatten().tolist():
        if compared == VERIFIED_RECORDS:
            break
        exact = torch.autograd.grad(
            losses[index], list(parameters.values()), retain_graph=True, allow_unused=True
        )
        if not all(bool(g.isfinite().all()) for g in exact if g is not None):
            continue
        compared += 1
        length = math.sqrt(sum(float(g.double().square().sum()) for g in exact if g is not None))
        allowed = tolerance * length + 1e-4 * max_grad_norm
        weights.zero_()[index] = 1
        wrong = []
        for (name, parameter), gradient in zip(parameters.items(), exact, strict=True):
            difference = torch.zeros_like(parameter) if gradient is None else -gradient
            if name in factors:
                factors[name].add_to(difference, weights)
            if not float(difference.double().norm()) <= allowed:
                wrong.append(name)
        measured = math.sqrt(sum(float(squares[index]) for squares in squared_norms.values()))
        if wrong or not length * (1 - tolerance) - allowed <= measured:
            raise UnsupportedModel(
                f"per-record gradients are not those of autograd for {', '.join(wrong) or 'any parameter'}. "
                "Records influence each other (batch statistics, contrastive loss), or a parameter is used "
                "outside the forward of the module that holds it. Make each record's loss depend on that "
                "record alone, and use parameters only by calling their module"
            )
    return compared
