"""The removal test: does taking one record out move the clipped sum by its contribution and no more?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from secure_train.dp.clipping import GhostClipper, LossFunction
from secure_train.dp.errors import InvalidParameterError, RemovalTestFailed

_TOLERATED_RATIO = 1 + 1e-4
# Other records' contributions move by float rounding, since another batch shape means another order of sums:
# up to 1e-5 was seen on good models.
_TOLERATED_COUPLING = 1e-3
_INPUT_SCALES = (1.0, 1e-2, 30.0, 1e3)
_REMOVED_RECORDS = 8


def removal_test(
    model: nn.Module,
    loss_fn: LossFunction,
    example_inputs: Tensor,
    example_targets: Tensor,
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
        loss_fn: per-record losses.
        example_inputs: shape (B, …), at least 2 records; scaled if floating point.
        example_targets: shape (B, …).
        max_grad_norm: the clipping norm C.

    Raises:
        RemovalTestFailed: with the worst ratio and coupling found.
        UnsupportedModel: the structure is refused already.
        InvalidParameterError: fewer than 2 examples, or C out of range.
    """
    if example_inputs.shape[0] < 2:
        raise InvalidParameterError(f"example_inputs: need at least 2 records, got {example_inputs.shape[0]}")
    subject = copy.deepcopy(model)
    for module in subject.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    ratio, coupling = 0.0, 0.0
    with GhostClipper(subject, max_grad_norm, verify=False) as clipper:
        for inputs in _variants(example_inputs):
            for moved, unexplained in _removals(clipper, loss_fn, inputs, example_targets):
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


def _variants(inputs: Tensor) -> Iterator[Tensor]:
    if not inputs.is_floating_point():
        yield inputs
        return
    for scale in _INPUT_SCALES:
        yield inputs * scale
    outlier = inputs.clone()
    outlier[0] *= _INPUT_SCALES[-1]
    yield outlier


def _removals(
    clipper: GhostClipper, loss_fn: LossFunction, inputs: Tensor, targets: Tensor
) -> Iterator[tuple[float, float]]:
    def clipped(chosen: Tensor) -> Tensor:
        total = clipper.sum(loss_fn, inputs[chosen], targets[chosen], physical_batch_size=inputs.shape[0])
        return torch.cat([gradient.double().flatten() for gradient in total.gradients.values()])

    everyone = torch.arange(inputs.shape[0], device=inputs.device)
    full = clipped(everyone)
    stride = math.ceil(inputs.shape[0] / _REMOVED_RECORDS)
    for removed in range(0, inputs.shape[0], stride):
        moved = full - clipped(everyone[everyone != removed])
        alone = clipped(everyone[removed : removed + 1])
        yield float(moved.norm()), float((moved - alone).norm())
