"""What floating point does to products of operands, and how far norms are raised to cover it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_REDUCED = {"high": 2.0**-11, "medium": 2.0**-9}
"""Unit roundoff of operands at torch's reduced float32 matmul precisions: TF32 and bfloat16."""


_SUMS = {torch.float64: 2.0**-50}
"""What a total in float32 (2^-23) or float64 may keep of terms that cancel within a record, squared: without
it, terms of any size would hide behind a gradient of zero and move the rounding of other records' sum. With
it, a record's terms are at most 2,900 C long together, which over T positions rounds at most T·1.7e-4 C."""
_LONG = 1 << 12
"""Squares that float32 adds up without losing more than 2^-12 of their sum."""


@dataclass(frozen=True)
class Rounding:
    """Relative errors of a sum of outer products Σ_t l_t ⊗ r_t, in units of Σ_t ‖l_t‖‖r_t‖.

    Attributes:
        products: of a squared norm, in the square of that unit: what Gram matrices and the sum over records
            lose.
        operands: of the weighted sum, where weighting rounds one operand or the product rounds both.
    """

    products: float
    operands: float


def rounding_of(operand: Tensor, terms: int) -> Rounding:
    """What `gram` and `add_weighted_product` do to operands of this kind.

    Args:
        operand: for its dtype and device.
        terms: how many products are added up on the way to a squared norm. The error of a sum of k products
            is at most k units of roundoff of the sum of their magnitudes (Higham, Accuracy and Stability of
            Numerical Algorithms, §3.1), in whatever order they are added.
    """
    sums = _SUMS.get(operand.dtype, 2.0**-23)
    if operand.dtype == torch.bfloat16 and operand.is_cuda:
        # Products of bfloat16 are exact in float32; the operand that is scaled by the weights is rounded.
        return Rounding(sums + terms * 2.0**-23, 2.0**-9)
    products = sums + terms * 2.0**-52
    unit = None
    if operand.dtype != torch.float64:
        unit = _REDUCED.get(torch.get_float32_matmul_precision())
    return Rounding(products, 0.0 if unit is None else 2 * unit)


def wide(operand: Tensor) -> Tensor:
    """The same values in at least float32."""
    return operand if operand.dtype in (torch.float32, torch.float64) else operand.float()


def squared_lengths(vectors: Tensor) -> Tensor:
    """Squared L2 norms over the last dimension, float64, never too small.

    Squares that underflow float32 are covered by the smallest normal number; those that overflow give inf.
    """
    kind = torch.float64 if vectors.dtype == torch.float64 else torch.float32
    size = vectors.shape[-1]
    whole = size - size % _LONG if size > _LONG else 0
    lengths = _squared(vectors[..., whole:], kind)
    if whole:
        # One float32 sum of many squares stops growing; sums of a few thousand are added up in float64.
        lengths = lengths + _squared(vectors[..., :whole].reshape(*vectors.shape[:-1], -1, _LONG), kind).sum(
            -1
        )
    return lengths + size * torch.finfo(kind).tiny


def _squared(vectors: Tensor, kind: torch.dtype) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, dtype=kind).double().square()
    return lengths


def gram(vectors: Tensor) -> Tensor:
    """Inner products of the rows of each record: (B, T, n) to (B, T, T).

    In float64, since what float32 loses can exceed the norm of a sum of rows that nearly cancel; in float32
    for bfloat16 on CUDA, where `rounding_of` covers it.
    """
    if vectors.dtype == torch.bfloat16 and vectors.is_cuda:
        return torch.bmm(vectors, vectors.mT, out_dtype=torch.float32)
    vectors = vectors.double()
    product: Tensor = vectors @ vectors.mT
    return product


def add_weighted_product(total: Tensor, left: Tensor, right: Tensor, weights: Tensor) -> None:
    """total += Σ_i w_i Σ_t left_it ⊗ right_it, accumulated in `total`'s precision.

    Args:
        total: (m, n), float32 or float64.
        left: (B, T, m).
        right: (B, T, n).
        weights: (B,).
    """
    if left.dtype != torch.bfloat16 or not left.is_cuda:
        left, right = wide(left), wide(right)
    # The smaller operand is scaled: one pass over less memory.
    if left.shape[-1] <= right.shape[-1]:
        left = _scaled(left, weights)
    else:
        right = _scaled(right, weights)
    left, right = left.flatten(0, 1), right.flatten(0, 1)
    if left.dtype == total.dtype:
        total.addmm_(left.mT, right)
    else:
        # Rounding the *sum* to bfloat16 would let one record move it by more than its own contribution.
        total.add_(torch.mm(left.mT, right, out_dtype=torch.float32))


def _scaled(operand: Tensor, weights: Tensor) -> Tensor:
    """w_i·x_i in the operand's dtype, rounded once: weights in bfloat16 would be rounded a second time."""
    kind = operand.dtype if operand.dtype == torch.float64 else torch.float32
    return torch.mul(operand, weights.to(kind).view(-1, 1, 1), out=torch.empty_like(operand))
