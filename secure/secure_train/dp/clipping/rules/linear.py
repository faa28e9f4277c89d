"""Linear maps over the last dimension: torch's Linear, transformers' Conv1D."""

from __future__ import annotations

from torch import Tensor, nn

from secure_train.dp.clipping.factors import Dense, Factor, Outer
from secure_train.dp.clipping.rules.base import own_parameters, summed
from secure_train.dp.clipping.tape import Use


def linear(use: Use) -> dict[str, Factor]:
    """torch.nn.Linear: weight (outputs, inputs), any number of middle dimensions."""
    gradient, inputs = _operands(use)
    return _factors(use.layer, Outer(gradient, inputs), gradient)


def transposed_linear(use: Use) -> dict[str, Factor]:
    """transformers.pytorch_utils.Conv1D: weight (inputs, outputs)."""
    gradient, inputs = _operands(use)
    return _factors(use.layer, Outer(inputs, gradient), gradient)


def is_transposed_linear(layer: nn.Module) -> bool:
    """Whether this is transformers' Conv1D, told by its name and shapes: transformers is not imported."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    return (
        type(layer).__name__ == "Conv1D"
        and type(layer).__module__ == "transformers.pytorch_utils"
        and isinstance(weight, Tensor)
        and isinstance(bias, Tensor)
        and weight.shape[1:] == bias.shape
    )


def _operands(use: Use) -> tuple[Tensor, Tensor]:
    """(B, T, outputs) and (B, T, inputs), as they were multiplied: under autocast, at its precision."""
    gradient, inputs = use.gradient, use.input
    records = gradient.shape[0]
    return (
        gradient.reshape(records, -1, gradient.shape[-1]),
        inputs.reshape(records, -1, inputs.shape[-1]).to(gradient.dtype),
    )


def _factors(layer: nn.Module, weight: Outer, gradient: Tensor) -> dict[str, Factor]:
    factors: dict[str, Factor] = {}
    trained = own_parameters(layer)
    if "weight" in trained:
        factors["weight"] = weight
    if "bias" in trained:
        factors["bias"] = Dense(summed(gradient, 1))
    return factors
