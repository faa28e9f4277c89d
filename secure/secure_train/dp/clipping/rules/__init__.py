"""From one use of a layer to its parameters' per-record gradients; one file per family of layers."""

from __future__ import annotations

from torch import nn

from secure_train.dp.clipping.rules.base import Rule, own_parameters, require_records
from secure_train.dp.clipping.rules.convolution import convolution
from secure_train.dp.clipping.rules.embedding import embedding
from secure_train.dp.clipping.rules.linear import is_transposed_linear, linear, transposed_linear
from secure_train.dp.clipping.rules.normalisation import group_norm, layer_norm, rms_norm
from secure_train.dp.clipping.rules.recomputed import attention, recomputed

_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Embedding: embedding,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    nn.GroupNorm: group_norm,
}


def rule_for(layer: nn.Module) -> Rule:
    """The rule of a layer; for layers without one of their own, `recomputed`.

    A subclass has its parent's rule if it has its forward, too. Parameters besides weight and bias mean that
    something else is going on.
    """
    if isinstance(layer, nn.MultiheadAttention):
        return attention
    if "forward" not in vars(layer) and own_parameters(layer).keys() <= {"weight", "bias"}:
        for kind, rule in _RULES.items():
            if isinstance(layer, kind) and type(layer).forward is kind.forward:
                return rule
        if is_transposed_linear(layer):
            return transposed_linear
    return recomputed


def tapped_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose uses have to be recorded, by path: those that hold trainable parameters."""
    found: dict[str, nn.Module] = {}
    whole: list[str] = []
    for path, module in model.named_modules():
        if any(path.startswith(prefix) for prefix in whole):
            continue
        if isinstance(module, nn.MultiheadAttention):
            whole.append(f"{path}." if path else "")
            if any(p.requires_grad for p in module.parameters()):
                found[path] = module
        elif own_parameters(module) and not isinstance(module, nn.ParameterList | nn.ParameterDict):
            found[path] = module
    return found


__all__ = ["Rule", "attention", "own_parameters", "require_records", "rule_for", "tapped_layers"]
