"""Batches: pytrees of tensors whose first dimension counts records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secure_train.dp.errors import InvalidParameterError

Batch: TypeAlias = Any
"""A tensor, or tuples, lists and dicts of tensors; each of shape (B, …), record i's data at index i."""

LossFunction: TypeAlias = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) -> per-record losses, shape (B,); record i's loss depends on record i alone."""


def number_of_records(batch: Batch) -> int:
    """B.

    Raises:
        InvalidParameterError: a leaf is not a tensor, or leaves disagree about B.
    """
    leaves = pytree.tree_leaves(batch)
    if not leaves:
        raise InvalidParameterError("batch: holds no tensor")
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0:
            raise InvalidParameterError(
                f"batch: every leaf must be a tensor with the records as first dimension, got "
                f"{type(leaf).__name__}. Pass tuples, lists and dicts (dict(batch) for a BatchEncoding), and "
                "put constants into the loss function"
            )
    counts = {leaf.shape[0] for leaf in leaves}
    if len(counts) > 1:
        shapes = [tuple(leaf.shape) for leaf in leaves]
        raise InvalidParameterError(f"batch: tensors disagree about the number of records: shapes {shapes}")
    return int(counts.pop())


def part_of(batch: Batch, chosen: slice | Tensor) -> Batch:
    """The chosen records: a slice, a mask or indices."""
    return pytree.tree_map(lambda tensor: tensor[chosen], batch)
