"""The removal test: does taking one record out move the clipped sum by its contribution and no more?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils import _pytree as pytree

from secure_train.dp.clipping import Batch, Clipper, LossFunction, PerformanceFlags
from secure_train.dp.clipping.batch import number_of_records, part_of
from secure_train.dp.errors import InvalidParameterError, RemovalTestFailed

_TOLERATED_RATIO = 1 + 1e-4
# Other records' contributions move by float rounding, since another batch shape means another order of sums:
# up to 1e-5 was seen on good models.
_TOLERATED_COUPLING = 1e-3
_INPUT_SCALES = (1e-2, 30.0, 1e3)
_REMOVED_RECORDS = 8


def removal_test(
    model: nn.Module,
    loss_fn: LossFunction,
    examples: Batch,
    max_grad_norm: float,
) -> None:
    """Measures the sensitivity of the clipped sum on examples, which should be synthetic or public.

    For several scales of the inputs, and with one outlier among them, records are removed one at a time. Two
    things must hold: the sum moves by at most C, and it moves by exactly the removed record's own clipped
    gradient. The second catches coupling that the first happens not to exceed. Passing is evidence, not
    proof.

    The test runs on a copy of the model with `nn.Dropout` layers switched off; other randomness in the
    forward pass (functional dropout) looks like coupling and fails.

    Args:
        model: as it will be trained.
        loss_fn: (model, batch) to per-record losses.
        examples: at least 2 records. Floating-point tensors of two dimensions and more are scaled: inputs,
            but not targets of one number a record.
        max_grad_norm: the clipping norm C.

    Raises:
        RemovalTestFailed: with the worst ratio and coupling found.
        UnsupportedModel: the structure is refused already.
        InvalidParameterError: fewer than 2 examples, or C out of range.
    """
    records = number_of_records(examples)
    if records < 2:
        raise InvalidParameterError(f"examples: need at least 2 records, got {records}")
    subject = copy.deepcopy(model)
    for module in subject.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    ratio, coupling = 0.0, 0.0
    flags = PerformanceFlags(physical_batch_size=records)
    with Clipper(subject, max_grad_norm, flags=flags, verify=False) as clipper:
        for variant in _variants(examples):
            for moved, unexplained in _removals(clipper, loss_fn, variant, records):
                ratio, coupling = (
                    max(ratio, moved / max_grad_norm),
                    max(coupling, unexplained / max_grad_norm),
                )
    if not (ratio <= _TOLERATED_RATIO and coupling <= _TOLERATED_COUPLING):
        raise RemovalTestFailed(
            f"{type(model).__name__}: removing one record moved the clipped sum by {ratio:.4g} C (allowed: "
            f"1) and the other records' part of it by {coupling:.4g} C (allowed: 0). Records influence each "
            "other in the model (batch statistics, functional dropout) or in the loss (contrastive terms, "
            "batch averages); make each record's loss depend on that record alone",
            ratio=ratio,
            coupling=coupling,
        )


def _variants(examples: Batch) -> Iterator[Batch]:
    yield examples
    if not any(_scalable(tensor) for tensor in pytree.tree_leaves(examples)):
        return
    for scale in _INPUT_SCALES:
        yield pytree.tree_map(lambda t, by=scale: t * by if _scalable(t) else t, examples)
    yield pytree.tree_map(lambda t: _with_outlier(t) if _scalable(t) else t, examples)


def _scalable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() > 1


def _with_outlier(tensor: Tensor) -> Tensor:
    outlier = tensor.clone()
    outlier[0] *= _INPUT_SCALES[-1]
    return outlier


def _removals(
    clipper: Clipper, loss_fn: LossFunction, batch: Batch, records: int
) -> Iterator[tuple[float, float]]:
    def clipped(chosen: Tensor) -> Tensor:
        total = clipper.sum(loss_fn, part_of(batch, chosen))
        return torch.cat([gradient.double().flatten() for gradient in total.gradients.values()])

    everyone = torch.arange(records)
    full = clipped(everyone)
    for removed in range(0, records, math.ceil(records / _REMOVED_RECORDS)):
        moved = full - clipped(everyone[everyone != removed])
        alone = clipped(everyone[removed : removed + 1])
        yield float(moved.norm()), float((moved - alone).norm())
