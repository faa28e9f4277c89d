"""How records' gradients are scaled, and what that guarantees about their sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from secure_train.dp.adjacency import Adjacency

_STABILITY = 0.01
# Beyond this, C/norm and the products with it leave float32's normal range and the bound could not be kept.
_LARGEST_NORM_OVER_CLIP = 1e30


class Clipping(StrEnum):
    """The scale of a record with gradient g. Each choice bounds its contribution by C over all parameters."""

    FLAT = "flat"
    """min(1, C/‖g‖) (Abadi et al., CCS 2016)."""

    AUTOMATIC = "automatic"
    """C/(‖g‖ + 0.01), AUTO-S of Bu et al., NeurIPS 2023: no C to tune, small gradients are scaled up."""

    PER_LAYER = "per-layer"
    """min(1, C_k/‖g_k‖) for each of K layers' gradient g_k, C_k = C/√K (McMahan et al., ICLR 2018)."""


@dataclass(frozen=True)
class ClippedSum:
    """The sum of clipped gradients of one (logical) batch. Private: not to be shown before noise is added.

    Attributes:
        gradients: one tensor per trainable parameter, by name, of the parameter's shape.
        records: the batch's size. Private too, under Poisson sampling: never log or divide by it.
        max_grad_norm: the clipping norm C.
    """

    gradients: dict[str, Tensor] = field(repr=False)
    records: int = field(repr=False)
    max_grad_norm: float

    def sensitivity(self, adjacency: Adjacency) -> float:
        """The most that the sum moves, in L2 norm, between neighbours: C, or 2C for replace-one."""
        return self.max_grad_norm * (2 if adjacency is Adjacency.REPLACE_ONE else 1)


@dataclass(frozen=True)
class Weights:
    """Scales of one physical batch.

    Attributes:
        by_parameter: (B,), float64, in [0, ∞), by name; 0 for records that do not count.
        usable: (B,), bool; False for records whose loss or gradient is not finite or exceeds 1e30·C.
    """

    by_parameter: dict[str, Tensor]
    usable: Tensor


def clipping_weights(
    squared_norms: Mapping[str, Tensor],
    finite: Tensor,
    clipping: Clipping,
    max_grad_norm: float,
    layers: Mapping[str, str],
) -> Weights:
    """Scales such that every record's scaled gradient is at most C long.

    Args:
        squared_norms: (B,), float64, by parameter; upper bounds.
        finite: (B,), bool; False for records that shall not count whatever their norm.
        clipping: which rule.
        max_grad_norm: C.
        layers: the layer of each trainable parameter. Its values must not depend on records.
    """
    norms = torch.stack(list(squared_norms.values())).sum(0).sqrt()
    usable = finite & norms.isfinite() & (norms <= max_grad_norm * _LARGEST_NORM_OVER_CLIP)

    def scale(length: Tensor, bound: float) -> Tensor:
        if clipping is Clipping.AUTOMATIC:
            weights = bound / (length + _STABILITY)
        else:
            weights = (bound / length).clamp(max=1)
        return torch.where(usable, weights, 0.0)

    if clipping is not Clipping.PER_LAYER:
        flat = scale(norms, max_grad_norm)
        return Weights(dict.fromkeys(squared_norms, flat), usable)
    bound = max_grad_norm / math.sqrt(len(set(layers.values())))
    by_layer: dict[str, Tensor] = {}
    for name, squares in squared_norms.items():
        layer = layers[name]
        by_layer[layer] = by_layer[layer] + squares if layer in by_layer else squares
    scales = {layer: scale(squares.sqrt(), bound) for layer, squares in by_layer.items()}
    return Weights({name: scales[layers[name]] for name in squared_norms}, usable)
