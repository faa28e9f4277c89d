"""Exact modular matrix products through float64 GEMM, on CPU and GPU, in plain torch.

A residue below 2^54 is three limbs of 18 bits. The product of two has five diagonals, each a sum of at most
three products of limbs per term; over T <= 2^15 terms that is below 3·2^15·2^36 < 2^53, so float64 sums are
exact in any order. Horner's rule puts the diagonals together: r·2^18 mod q needs no 128-bit integers, since
with t = floor(r·2^18 / q) estimated in float64, r·2^18 - t·q is small and so right in wrapping int64.
"""

from __future__ import annotations

import torch

from secure_train.ckks.kernels.base import check_product, require_bits
from secure_train.ckks.parameters import KERNEL_MODULUS_BITS

_LIMB = 18
_MASK = (1 << _LIMB) - 1
_MOST_TERMS = 1 << 15
_WORKING_BYTES = {"cpu": 1 << 26, "cuda": 1 << 31}


class TorchKernel:
    """Modular GEMM; see the module's text."""

    name = "torch"

    def forward(self, records: torch.Tensor, weights: torch.Tensor, modulus: int) -> torch.Tensor:
        """See `Kernel.forward`."""
        check_product(records, weights, 1, "weights")
        require_bits(self.name, modulus, KERNEL_MODULUS_BITS)
        blocks, width, _, degree = records.shape
        outputs = weights.shape[1]
        result = records.new_empty((blocks, outputs, 2, degree))
        step = _positions(records, (blocks * 2 + outputs) * width + 2 * blocks * 2 * outputs)
        constant = weights[..., 0] if weights.shape[-1] == 1 else None
        for start in range(0, degree, step):
            at = slice(start, start + step)
            # (positions, 2S, F) @ (positions or 1, F, k)
            left = records[..., at].permute(3, 0, 2, 1).reshape(-1, blocks * 2, width)
            if constant is not None:
                product = matmul(left.reshape(-1, width), constant, modulus).reshape(-1, blocks, 2, outputs)
            else:
                product = matmul(left, weights[..., at].permute(2, 0, 1), modulus)
                product = product.reshape(-1, blocks, 2, outputs)
            result[..., at] = product.permute(1, 3, 2, 0)
        return result

    def gradient(self, records: torch.Tensor, errors: torch.Tensor, modulus: int) -> torch.Tensor:
        """See `Kernel.gradient`."""
        check_product(records, errors, 0, "errors")
        require_bits(self.name, modulus, KERNEL_MODULUS_BITS)
        blocks, width, _, degree = records.shape
        outputs = errors.shape[1]
        result = records.new_empty((width, outputs, 3, degree))
        step = _positions(records, (width + outputs) * 2 * blocks + 8 * width * outputs)
        for start in range(0, degree, step):
            at = slice(start, start + step)
            # (positions, 2F, S) @ (positions, S, 2k)
            left = records[..., at].permute(3, 1, 2, 0).reshape(-1, width * 2, blocks)
            right = errors[..., at].permute(3, 0, 1, 2).reshape(-1, blocks, outputs * 2)
            product = matmul(left, right, modulus).reshape(-1, width, 2, outputs, 2)
            middle = (product[:, :, 0, :, 1] + product[:, :, 1, :, 0]) % modulus
            parts = [product[:, :, 0, :, 0], middle, product[:, :, 1, :, 1]]
            result[..., at] = torch.stack(parts, -1).permute(1, 2, 3, 0)
        return result


def matmul(left: torch.Tensor, right: torch.Tensor, modulus: int) -> torch.Tensor:
    """(..., i, t) @ (..., t, j) mod q for int64 residues and q < 2^54; exact for any number of terms."""
    terms = left.shape[-1]
    if terms > _MOST_TERMS:
        parts = [
            matmul(left[..., at : at + _MOST_TERMS], right[..., at : at + _MOST_TERMS, :], modulus)
            for at in range(0, terms, _MOST_TERMS)
        ]
        result = parts[0]
        for part in parts[1:]:
            result = (result + part) % modulus
        return result
    first, second = _limbs(left), _limbs(right)
    result = torch.zeros((), dtype=torch.int64, device=left.device)
    for diagonal in (4, 3, 2, 1, 0):
        pairs = [(i, diagonal - i) for i in range(3) if 0 <= diagonal - i < 3]
        total = first[pairs[0][0]] @ second[pairs[0][1]]
        for i, j in pairs[1:]:
            total += first[i] @ second[j]
        result = (_shifted(result, modulus) + total.long() % modulus) % modulus
    return result


def _limbs(residues: torch.Tensor) -> list[torch.Tensor]:
    parts = [residues & _MASK, (residues >> _LIMB) & _MASK, residues >> 2 * _LIMB]
    return [part.to(torch.float64) for part in parts]


def _shifted(residues: torch.Tensor, modulus: int) -> torch.Tensor:
    """r·2^18 mod q for r in [0, q), up to a multiple of q within ±q: |t - r·2^18/q| <= 1 + 2^-34."""
    quotient = (residues.to(torch.float64) * ((1 << _LIMB) / modulus)).long()
    # Wraps around modulo 2^64, and comes out right because the difference lies in (-2q, 2q).
    return (residues << _LIMB) - quotient * modulus


def _positions(records: torch.Tensor, numbers: int) -> int:
    """How many positions to work on at a time: about ten arrays of that many numbers fit into the memory."""
    most = _WORKING_BYTES.get(records.device.type, _WORKING_BYTES["cpu"])
    return max(1, min(records.shape[-1], most // (80 * max(numbers, 1))))
