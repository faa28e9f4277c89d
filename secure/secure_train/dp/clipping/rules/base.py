"""What a rule is, and what every rule requires of what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secure_train.dp.clipping.factors import Factor
from secure_train.dp.clipping.tape import Use
from secure_train.dp.errors import UnsupportedModel

Rule: TypeAlias = Callable[[Use], dict[str, Factor]]
"""One use of a layer to the per-record gradients of the layer's own trainable parameters, by local name."""


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters that the layer itself holds, also in a ParameterList or ParameterDict."""
    found = {name: p for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
    for prefix, child in layer.named_children():
        if isinstance(child, nn.ParameterList | nn.ParameterDict):
            found |= {f"{prefix}.{name}": p for name, p in child.named_parameters() if p.requires_grad}
    return found


def require_records(use: Use, records: int, dimension: int = 0) -> None:
    """Refuse a use whose tensors do not count records in one dimension.

    Raises:
        UnsupportedModel: names the layer and what to do.
    """
    for tensor in pytree.tree_leaves((use.args, use.kwargs, use.gradients)):
        if isinstance(tensor, Tensor) and (tensor.dim() <= dimension or tensor.shape[dimension] != records):
            raise UnsupportedModel(
                f"{use.path}: got or returned a tensor of shape {tuple(tensor.shape)} in a batch of "
                f"another number of records; dimension {dimension} must count records. Do not broadcast or "
                "flatten over records before this layer: pass position_ids of shape (B, L) instead of "
                "(1, L), inputs of shape (B, T, d) instead of (B·T, d), and use batch_first=True"
            )


def summed(values: Tensor, *dimensions: int) -> Tensor:
    """The sum over dimensions, at least in float32."""
    if not dimensions:
        return values
    if all(values.shape[dimension] == 1 for dimension in dimensions):
        return values.squeeze(dimensions)
    return values.sum(dimensions, dtype=torch.float64 if values.dtype == torch.float64 else torch.float32)
