"""What floating point does to products of operands, and how far norms are raised to cover it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_REDUCED = {"high": 2.0**-11, "medium": 2.0**-9}
"""Unit roundoff of operands at torch's reduced float32 matmul precisions: TF32 and bfloat16."""


@dataclass(frozen=True)
class Rounding:
    """Relative errors of a sum of outer products Σ_t l_t ⊗ r_t, in units of Σ_t ‖l_t‖‖r_t‖.

    Attributes:
        products: of a squared norm that was computed from Gram matrices, in the square of that unit.
        operands: of the weighted sum, where weighting rounds one operand or the product rounds both.
    """

    products: float
    operands: float


def rounding_of(operand: Tensor) -> Rounding:
    """What `gram` and `weighted_product` do to operands of this kind."""
    if operand.dtype == torch.float64:
        return Rounding(2.0**-50, 0.0)
    if operand.dtype == torch.bfloat16 and operand.is_cuda:
        # Products of bfloat16 are exact in float32; the operand that is scaled by the weights is rounded.
        return Rounding(2.0**-21, 2.0**-9)
    unit = _REDUCED.get(torch.get_float32_matmul_precision())
    return Rounding(2.0**-21, 0.0) if unit is None else Rounding(4 * unit, 2 * unit)


def wide(operand: Tensor) -> Tensor:
    """The same values in at least float32."""
    return operand if operand.dtype in (torch.float32, torch.float64) else operand.float()


def squared_lengths(vectors: Tensor) -> Tensor:
    """Squared L2 norms over the last dimension, float64, never too small.

    Squares that underflow float32 are covered by the smallest normal number; those that overflow give inf.
    """
    kind = torch.float64 if vectors.dtype == torch.float64 else torch.float32
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, dtype=kind).double().square()
    return lengths + vectors.shape[-1] * torch.finfo(kind).tiny


def gram(vectors: Tensor) -> Tensor:
    """Inner products of the rows of each record: (B, T, n) to (B, T, T), at least float32."""
    if vectors.dtype == torch.bfloat16 and vectors.is_cuda:
        return torch.bmm(vectors, vectors.mT, out_dtype=torch.float32)
    vectors = wide(vectors)
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
