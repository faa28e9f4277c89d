"""Normalisation of each record by itself, followed by a scale and a shift for each feature."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from secure_train.dp.clipping.factors import Dense, Factor
from secure_train.dp.clipping.factors.precision import wide
from secure_train.dp.clipping.rules.base import own_parameters, summed
from secure_train.dp.clipping.tape import Use


def layer_norm(use: Use) -> dict[str, Factor]:
    """torch.nn.LayerNorm, with or without bias."""
    layer = use.layer
    assert isinstance(layer, nn.LayerNorm)  # noqa: S101  (how rules are chosen)
    normalised = functional.layer_norm(wide(use.input), layer.normalized_shape, eps=layer.eps)
    return _trailing(use, normalised, len(layer.normalized_shape))


def rms_norm(use: Use) -> dict[str, Factor]:
    """torch.nn.RMSNorm."""
    layer = use.layer
    assert isinstance(layer, nn.RMSNorm)  # noqa: S101  (how rules are chosen)
    normalised = functional.rms_norm(wide(use.input), layer.normalized_shape, eps=layer.eps)
    return _trailing(use, normalised, len(layer.normalized_shape))


def group_norm(use: Use) -> dict[str, Factor]:
    """torch.nn.GroupNorm: features are the second dimension."""
    layer = use.layer
    assert isinstance(layer, nn.GroupNorm)  # noqa: S101  (how rules are chosen)
    normalised = functional.group_norm(wide(use.input), layer.num_groups, eps=layer.eps)
    return _features(use, normalised, tuple(range(2, normalised.dim())))


def _trailing(use: Use, normalised: Tensor, kept: int) -> dict[str, Factor]:
    return _features(use, normalised, tuple(range(1, normalised.dim() - kept)))


def _features(use: Use, normalised: Tensor, over: tuple[int, ...]) -> dict[str, Factor]:
    gradient = wide(use.gradient)
    values = {"weight": lambda: gradient * normalised, "bias": lambda: gradient}
    return {name: Dense(summed(values[name](), *over)) for name in own_parameters(use.layer)}
