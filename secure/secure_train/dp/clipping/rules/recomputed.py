"""Any other layer: per-record gradients by running it again, one record at a time in parallel.

`torch.func` maps the vector-Jacobian product of the layer alone over records, at its recorded inputs and
output gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secure_train.dp.clipping.factors import Dense, Factor
from secure_train.dp.clipping.rules.base import own_parameters, require_records
from secure_train.dp.clipping.tape import Use
from secure_train.dp.errors import UnsupportedModel


def recomputed(use: Use) -> dict[str, Factor]:
    """Gradients of the parameters that the layer itself holds; its children's have rules of their own."""
    records = _first(use).shape[0]
    require_records(use, records)
    return per_record(use, own_parameters(use.layer), [0] * len(_tensors(use)), 0)


def attention(use: Use) -> dict[str, Factor]:
    """torch.nn.MultiheadAttention with all its projections, which it does not call as layers."""
    layer = use.layer
    assert isinstance(layer, nn.MultiheadAttention)  # noqa: S101  (how rules are chosen)
    dimension = 0 if layer.batch_first else 1
    trained = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    if layer.dropout > 0:
        raise UnsupportedModel(
            f"{use.path}: MultiheadAttention with dropout cannot be run again with the same mask; set its "
            "dropout to 0 (a Dropout layer after it does no harm)"
        )
    dimensions: list[int | None] = []
    queries = dict(zip(("query", "key", "value"), use.args, strict=False)) | use.kwargs
    if queries.get("query", _first(use)).dim() != 3:
        raise UnsupportedModel(f"{use.path}: MultiheadAttention needs batched inputs of three dimensions")
    mask = queries.get("attn_mask", use.args[5] if len(use.args) > 5 else None)
    for tensor in _tensors(use):
        if tensor is mask:
            if mask.dim() != 2:
                raise UnsupportedModel(
                    f"{use.path}: attn_mask must have shape (L, S), the same for all records"
                )
            dimensions.append(None)
        else:
            dimensions.append(dimension if tensor.dim() == 3 else 0)
    return per_record(use, trained, dimensions, dimension)


def per_record(
    use: Use, trained: Mapping[str, nn.Parameter], dimensions: list[int | None] | list[int], dimension: int
) -> dict[str, Factor]:
    """Run the layer for every record by itself.

    Args:
        use: what happened.
        trained: the parameters to differentiate by, by local name.
        dimensions: for each tensor among the arguments, which dimension counts records; None: shared.
        dimension: which dimension of the outputs does.

    Raises:
        UnsupportedModel: the layer cannot be run that way.
    """
    layer, tensors = use.layer, _tensors(use)
    leaves, shape = pytree.tree_flatten((use.args, use.kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    # A parameter that a child shares is differentiated under the layer's own name only: the child's use of it
    # is recorded by the child.
    frozen = {name: p.detach() for name, p in layer.named_parameters(remove_duplicate=False)}
    state = frozen | dict(layer.named_buffers())
    wanted = [i for i, gradient in zip(use.outputs, use.gradients, strict=True) if gradient is not None]

    def one(record: list[Tensor], gradients: list[Tensor]) -> dict[str, Tensor]:
        filled = list(leaves)
        for place, tensor, where in zip(places, record, dimensions, strict=True):
            filled[place] = tensor if where is None else tensor.unsqueeze(where)
        args, kwargs = pytree.tree_unflatten(filled, shape)

        def outputs(parameters: dict[str, Tensor]) -> list[Tensor]:
            result = torch.func.functional_call(layer, state | parameters, args, kwargs, tie_weights=False)
            found = pytree.tree_leaves(result)
            return [found[i] for i in wanted]

        pull = torch.func.vjp(outputs, {name: p.detach() for name, p in trained.items()})[1]
        pulled: dict[str, Tensor] = pull([g.unsqueeze(dimension) for g in gradients])[0]
        return pulled

    arriving = [gradient for gradient in use.gradients if gradient is not None]
    try:
        with torch.autocast(tensors[0].device.type, use.autocast, enabled=use.autocast is not None):
            mapped = torch.func.vmap(one, in_dims=(list(dimensions), [dimension] * len(arriving)))
            found = mapped(tensors, arriving)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError) as error:
        kind = type(layer).__name__
        # The message of the cause is torch's own; it may quote shapes, never values.
        raise UnsupportedModel(
            f"{use.path}: {kind} has no clipping rule, and cannot be run for each record by itself "
            f"({type(error).__name__}). It must take tensors of shape (B, …), treat records alike and "
            "draw no random numbers (dropout). Use layers that have rules, or freeze it. For recurrent "
            "layers, opacus.layers has replacements made of Linear layers"
        ) from error
    return {name: Dense(gradient) for name, gradient in found.items()}


def _tensors(use: Use) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves((use.args, use.kwargs)) if isinstance(leaf, Tensor)]


def _first(use: Use) -> Tensor:
    tensors: list[Any] = _tensors(use)
    if not tensors:
        raise UnsupportedModel(
            f"{use.path}: holds trainable parameters, but is called without a tensor, so that records cannot "
            "be told apart. Use the parameter in the forward of a module that takes the records, or freeze it"
        )
    first: Tensor = tensors[0]
    return first
