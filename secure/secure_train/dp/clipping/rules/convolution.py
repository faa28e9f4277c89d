"""Convolutions of one, two and three dimensions."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from secure_train.dp.clipping.factors import Convolution, Dense, Factor
from secure_train.dp.clipping.rules.base import own_parameters, summed
from secure_train.dp.clipping.tape import Use


def convolution(use: Use) -> dict[str, Factor]:
    """torch.nn.Conv1d, Conv2d, Conv3d: any stride, padding mode, dilation and groups."""
    layer: Any = use.layer
    gradient = use.gradient
    trained = own_parameters(use.layer)
    factors: dict[str, Factor] = {}
    if "weight" in trained:
        padded = use.input.to(gradient.dtype)
        padding = layer._reversed_padding_repeated_twice
        if any(padding):
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            padded = functional.pad(padded, padding, mode=mode)
        factors["weight"] = Convolution(
            padded, gradient, tuple(layer.weight.shape), layer.stride, layer.dilation, layer.groups
        )
    if "bias" in trained:
        factors["bias"] = Dense(summed(gradient, *range(2, gradient.dim())))
    return factors
