"""The clipping engine: one forward pass, one backward pass to layer outputs only, weighted sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn

from secure_train.dp.clipping.batch import Batch, LossFunction, number_of_records, part_of
from secure_train.dp.clipping.bounds import ClippedSum, Clipping, Weights, clipping_weights
from secure_train.dp.clipping.factors import Factor, InstantiationBudget
from secure_train.dp.clipping.gradients import per_record_gradients
from secure_train.dp.clipping.rules import tapped_layers
from secure_train.dp.clipping.tape import Tape
from secure_train.dp.clipping.verification import verify
from secure_train.dp.errors import InvalidParameterError, UnsupportedModel
from secure_train.dp.validation import check_model


@dataclass(frozen=True)
class PerformanceFlags:
    """What changes time and memory, never the result or the guarantee.

    Attributes:
        physical_batch_size: the most records that are in memory at a time.
        instantiate_limit_bytes: the most memory that written-out per-record gradients may take, where
            writing them out is faster than doing without.

    Raises:
        InvalidParameterError: a value is out of range.
    """

    physical_batch_size: int = 256
    instantiate_limit_bytes: int = 1 << 28

    def __post_init__(self) -> None:
        if self.physical_batch_size < 1:
            raise InvalidParameterError(
                f"physical_batch_size: must be at least 1, got {self.physical_batch_size}"
            )
        if self.instantiate_limit_bytes < 0:
            raise InvalidParameterError(
                f"instantiate_limit_bytes: must be at least 0, got {self.instantiate_limit_bytes}"
            )


class Clipper:
    """Sums of clipped per-record gradients: the one place where private records turn into bounded numbers.

    Book-keeping (Bu et al., ICML 2023): the backward pass leaves layers' inputs and output gradients, from
    which norms and then the weighted sum are computed; gradients of weights are never computed by autograd.

    Formal guarantee: each record contributes its own gradient, scaled to an L2 norm of at most C over all
    trainable parameters together, and nothing else. Adding or removing a record moves the sum by at most C,
    replacing one by at most 2C. This presumes that a record's loss depends on that record alone.

    | case | contribution |
    |---|---|
    | loss or norm not finite in float32, or norm above 1e30·C | exactly zero; how many is not told |
    | parameter used several times, or shared by layers | uses are added up before the norm is taken |
    | parameter not used | zero |
    | empty batch | a sum of zeros |

    Arithmetic: norms of sums that may cancel are computed in float64 (in float32 for bfloat16 on CUDA) and
    raised by what accumulation may lose, so that C holds per record up to a relative 1e-4. Adding up records
    in float32 rounds as any sum does; terms that cancel within a record are counted so that they cannot
    amplify that. State that a model keeps between batches outside its buffers is not noticed here.
    Under bfloat16 autocast the gradient of a record is the exact product of its bfloat16 operands. On
    CUDA, scaling an operand by the record's weight rounds it once more, by at most 2^-9·Σ_t ‖l_t‖‖r_t‖
    for a layer's outer products; that is added to the norm before weights are chosen, so C holds with it.
    TF32 is treated likewise. Sums are accumulated in float32, never rounded to bfloat16.

    On a GPU, each physical batch waits once for the device: for the answer whether a record must be masked.

    The first batch is verified against autograd for a few records, which tells wrong rules, hidden uses of
    parameters and losses that couple records.

    Args:
        model: in training mode; `check_model` must accept it. Hooked until `close`.
        max_grad_norm: the clipping norm C.
        clipping: which rule scales records.
        flags: time and memory.
        verify: whether to verify the first batch; switched off only where violations are to be measured.

    Raises:
        UnsupportedModel: see `check_model`.
        InvalidParameterError: C is not positive and finite.
    """

    def __init__(
        self,
        model: nn.Module,
        max_grad_norm: float,
        *,
        clipping: Clipping = Clipping.FLAT,
        flags: PerformanceFlags = PerformanceFlags(),
        verify: bool = True,
    ) -> None:
        if not (math.isfinite(max_grad_norm) and max_grad_norm > 0):
            raise InvalidParameterError(f"max_grad_norm: must be positive and finite, got {max_grad_norm!r}")
        check_model(model)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._model = model
        self._max_grad_norm = float(max_grad_norm)
        self._clipping = Clipping(clipping)
        self._flags = flags
        self._unverified = verify
        self._names = {id(p): name for name, p in self.parameters.items()}
        self._layers = {name: name.rpartition(".")[0] for name in self.parameters}
        self._tape = Tape(tapped_layers(model))

    def sum(self, loss_fn: LossFunction, batch: Batch) -> ClippedSum:
        """The clipped sum over a batch of any size, 0 included.

        Raises:
            InvalidParameterError: the batch or the losses do not have the form that they must.
            UnsupportedModel: per-record gradients of this model cannot be told apart.
        """
        totals = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        records = self.add_to(totals, loss_fn, batch)
        return ClippedSum(totals, records, self._max_grad_norm)

    def add_to(self, totals: dict[str, Tensor], loss_fn: LossFunction, batch: Batch) -> int:
        """Add the clipped sum over a batch to `totals`, in place; returns the number of records (private).

        The batch is worked on in slices of `physical_batch_size` records, which bounds memory and changes
        nothing else: the result is the same up to float rounding.

        Args:
            totals: one contiguous tensor for each trainable parameter, of its shape and dtype.
            loss_fn: per-record losses.
            batch: records along every tensor's first dimension.

        Raises:
            InvalidParameterError: see `sum`.
            UnsupportedModel: see `sum`.
        """
        records = number_of_records(batch)
        size = self._flags.physical_batch_size
        for start in range(0, records, size):
            part = batch if records <= size else part_of(batch, slice(start, start + size))
            with self._tape.recording():
                self._add_part(totals, loss_fn, part, min(size, records - start))
        return records

    def close(self) -> None:
        """Removes the hooks; the model is as it was before."""
        self._tape.remove()

    def __enter__(self) -> Clipper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_part(self, totals: dict[str, Tensor], loss_fn: LossFunction, batch: Batch, records: int) -> None:
        losses = self._losses(loss_fn, batch, records)
        device = losses.device.type
        autocast = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False):
            uses = self._tape.uses(losses, keep_graph=self._unverified)
            with torch.no_grad(), self._tape.paused():
                factors = per_record_gradients(uses, self._names, records)
                del uses
                factors, squared = self._measured(factors)
            if self._unverified:
                compared = verify(
                    losses, factors, squared, self.parameters, self._max_grad_norm, autocast=autocast
                )
                # A lone record cannot show that records influence each other.
                self._unverified = compared < 2
            if not factors:
                return
            with torch.no_grad():
                weights = clipping_weights(
                    squared, losses.detach().isfinite(), self._clipping, self._max_grad_norm, self._layers
                )
                del losses
                self._add_weighted(totals, factors, weights)

    def _measured(self, factors: dict[str, Factor]) -> tuple[dict[str, Factor], dict[str, Tensor]]:
        budget = InstantiationBudget(self._flags.instantiate_limit_bytes)
        squared: dict[str, Tensor] = {}
        cheapest: dict[str, Factor] = {}
        for name in list(factors):
            squared[name], cheapest[name] = factors.pop(name).measured(budget)
        return cheapest, squared

    def _add_weighted(self, totals: dict[str, Tensor], factors: dict[str, Factor], weights: Weights) -> None:
        if not bool(weights.usable.all()):
            factors = {name: factor.masked(weights.usable) for name, factor in factors.items()}
        for name in list(factors):
            total = totals[name]
            factors.pop(name).add_to(total, weights.by_parameter[name].to(total.dtype))

    def _losses(self, loss_fn: LossFunction, batch: Batch, records: int) -> Tensor:
        before = _buffers(self._model)
        with torch.enable_grad():
            losses = loss_fn(self._model, batch)
        if _changed(before, _buffers(self._model)):
            raise UnsupportedModel(
                f"{type(self._model).__name__}: a forward pass changed a buffer, which then holds "
                "unprotected data. Remove running statistics (BatchNorm -> GroupNorm) "
                "and other state kept between batches"
            )
        if not isinstance(losses, Tensor) or losses.shape != (records,):
            shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise InvalidParameterError(
                f"loss_fn: must return one loss per record, shape (B,), got {shape}; "
                'use reduction="none", and average over a record\'s own positions only'
            )
        if losses.dtype not in (torch.float32, torch.float64):
            losses = losses.float()
        return losses


def _buffers(model: nn.Module) -> list[tuple[Tensor, int]]:
    return [(buffer, buffer._version) for buffer in model.buffers()]


def _changed(before: list[tuple[Tensor, int]], after: list[tuple[Tensor, int]]) -> bool:
    return len(before) != len(after) or any(
        old is not new or old_version != new_version
        for (old, old_version), (new, new_version) in zip(before, after, strict=True)
    )
