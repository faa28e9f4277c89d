"""Sums of clipped per-record gradients: the one place where private records turn into bounded numbers.

Contract of a sum, whatever engine computes it: each record contributes its own gradient, scaled to an L2 norm
of at most C over all trainable parameters together, and nothing else; so adding or removing a record moves
the sum by at most C, replacing one by at most 2C.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import torch
from torch import Tensor, nn

from secure_train.dp.adjacency import Adjacency
from secure_train.dp.engine import NormEngine
from secure_train.dp.errors import InvalidParameterError, UnsupportedModel
from secure_train.dp.validation import check_model

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> per-record losses, shape (B,); record i's loss depends on record i alone."""

_VERIFIED_RECORDS = 4
# Beyond this, C/norm and the products with it leave float32's normal range and the bound could not be kept.
_LARGEST_NORM_OVER_CLIP = 1e30


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


class GhostClipper:
    """Clips with Opacus' ghost norms: one backward pass for norms, a second for the weighted sum.

    A record whose loss or gradient is not finite, or whose gradient norm exceeds 1e30·C, contributes exactly
    zero: it is taken out and the rest is run again (multiplying by zero would not do: 0·NaN is NaN). How many
    there were is not told, since it would be an unaccounted release.

    The first batch is verified: for a few records the norms are compared with those of plain autograd on the
    same graph, which tells wrong layer rules, hidden uses of parameters and losses that couple records.

    Limits: norms of convolution and normalisation layers are float32; the bound C holds up to float32
    rounding (relative 1e-4). Autocast is refused because norms would be taken at reduced precision.

    Args:
        model: in training mode; `check_model` must accept it. Hooked until `close`.
        max_grad_norm: the clipping norm C.
        verify: whether to verify the first batch, and that no sum is longer than its records allow; switched
            off only where violations are to be measured.

    Raises:
        UnsupportedModel: see `check_model`.
        InvalidParameterError: C is not positive and finite.
    """

    def __init__(self, model: nn.Module, max_grad_norm: float, *, verify: bool = True) -> None:
        if not (math.isfinite(max_grad_norm) and max_grad_norm > 0):
            raise InvalidParameterError(f"max_grad_norm: must be positive and finite, got {max_grad_norm!r}")
        check_model(model)
        self._model = model
        self._max_grad_norm = float(max_grad_norm)
        self._verify_sums = verify
        self._unverified = verify
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._engine = NormEngine(model, self._max_grad_norm)

    def sum(
        self, loss_fn: LossFunction, inputs: Tensor, targets: Tensor, *, physical_batch_size: int
    ) -> ClippedSum:
        """The clipped sum over a batch of any size, 0 included, in slices of `physical_batch_size` records.

        The slices bound memory only: the result is the same sum up to float rounding.

        Args:
            loss_fn: per-record losses.
            inputs: shape (B, …).
            targets: shape (B, …).
            physical_batch_size: the most records that are in memory at a time.

        Raises:
            InvalidParameterError: shapes do not fit each other, or losses were reduced.
            UnsupportedModel: per-record gradients of this model cannot be told apart.
        """
        if physical_batch_size < 1:
            raise InvalidParameterError(f"physical_batch_size: must be at least 1, got {physical_batch_size}")
        if inputs.shape[:1] != targets.shape[:1]:
            raise InvalidParameterError(
                f"inputs, targets: need the same number of records, got {tuple(inputs.shape)} and "
                f"{tuple(targets.shape)}"
            )
        totals = {name: torch.zeros_like(p) for name, p in self._named.items()}
        with warnings.catch_warnings():
            # True of every first layer, and what the norms need.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            for start in range(0, inputs.shape[0], physical_batch_size):
                chosen = slice(start, start + physical_batch_size)
                parts = self._clip(loss_fn, inputs[chosen], targets[chosen])
                for total, part in zip(totals.values(), parts, strict=True):
                    total += part
        return ClippedSum(totals, inputs.shape[0], self._max_grad_norm)

    def close(self) -> None:
        """Removes the hooks; the model is as it was before."""
        self._engine.close()

    def __enter__(self) -> GhostClipper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clip(self, loss_fn: LossFunction, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        parameters = list(self._named.values())
        while inputs.shape[0] > 0:
            losses = self._losses(loss_fn, inputs, targets)
            norms = self._engine.norms(losses)
            usable = (
                losses.isfinite()
                & norms.isfinite()
                & (norms <= self._max_grad_norm * _LARGEST_NORM_OVER_CLIP)
            )
            if not usable.all():
                inputs, targets = inputs[usable], targets[usable]
                continue
            if self._unverified:
                self._verify(losses, norms)
            weights = (self._max_grad_norm / norms).clamp(max=1).to(losses.dtype)
            gradients = torch.autograd.grad((weights * losses).sum(), parameters, allow_unused=True)
            parts = [
                torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)
            ]
            if self._verify_sums:
                self._require_bound(parts, inputs.shape[0])
            return parts
        return [torch.zeros_like(p) for p in parameters]

    def _losses(self, loss_fn: LossFunction, inputs: Tensor, targets: Tensor) -> Tensor:
        if torch.is_autocast_enabled(inputs.device.type):
            raise UnsupportedModel(
                "autocast is on: gradient norms would lose precision; clip outside autocast"
            )
        before = _buffers(self._model)
        losses = loss_fn(self._engine.forward(inputs), targets)
        if _changed(before, _buffers(self._model)):
            raise UnsupportedModel(
                f"{type(self._model).__name__}: a forward pass changed a buffer, which then holds "
                "unprotected data. Remove running statistics (BatchNorm -> GroupNorm) "
                "and other state kept between batches"
            )
        if losses.shape != inputs.shape[:1]:
            raise InvalidParameterError(
                f"loss_fn: must return one loss per record, shape ({inputs.shape[0]},), got "
                f'{tuple(losses.shape)}; use reduction="none"'
            )
        return losses

    def _verify(self, losses: Tensor, norms: Tensor) -> None:
        for index in range(min(_VERIFIED_RECORDS, losses.shape[0])):
            gradients = torch.autograd.grad(
                losses[index], list(self._named.values()), retain_graph=True, allow_unused=True
            )
            exact = math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))
            if abs(exact - float(norms[index])) > 0.01 * exact + 1e-4 * self._max_grad_norm:
                raise UnsupportedModel(
                    f"{type(self._model).__name__}: per-record gradient norms are not those of autograd. "
                    "Records influence each other (batch statistics, contrastive loss) or a parameter is "
                    "used outside its layer; make each record's loss depend on that record alone"
                )
        # A lone record cannot show that records influence each other.
        self._unverified = losses.shape[0] < 2

    def _require_bound(self, parts: list[Tensor], records: int) -> None:
        length = math.sqrt(sum(float(part.double().square().sum()) for part in parts))
        if not length <= records * self._max_grad_norm * (1 + 1e-3):
            raise UnsupportedModel(
                f"{type(self._model).__name__}: the clipped sum is longer than its records allow. Some "
                "parameter's gradient is not accounted for; run removal_test on this model to find out"
            )


def clipped_gradient_sum(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    max_grad_norm: float,
    *,
    physical_batch_size: int,
) -> ClippedSum:
    """One batch's clipped sum. `GhostClipper` does the same for many batches without re-installing its hooks.

    Raises:
        UnsupportedModel: see `GhostClipper`.
        InvalidParameterError: see `GhostClipper`.
    """
    with GhostClipper(model, max_grad_norm) as clipper:
        return clipper.sum(loss_fn, inputs, targets, physical_batch_size=physical_batch_size)


def _buffers(model: nn.Module) -> list[tuple[Tensor, int]]:
    return [(buffer, buffer._version) for buffer in model.buffers()]


def _changed(before: list[tuple[Tensor, int]], after: list[tuple[Tensor, int]]) -> bool:
    return len(before) != len(after) or any(
        old is not new or old_version != new_version
        for (old, old_version), (new, new_version) in zip(before, after, strict=True)
    )
