"""The same products by SEAL's own evaluator: slow, and what the other kernels are held against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tenseal.sealapi as seal
import torch

from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.kernels.base import check_product
from secure_train.ckks.packing import Integers
from secure_train.ckks.parameters import Parameters
from secure_train.ckks.seal_ring import SealRing, ring


class SealKernel:
    """One SEAL call for each product and each sum. CPU only."""

    name = "seal"

    def forward(self, records: torch.Tensor, weights: torch.Tensor, modulus: int) -> torch.Tensor:
        """See `Kernel.forward`."""
        check_product(records, weights, 1, "weights")
        here, evaluator = _ring(records, modulus)
        blocks, width, _, degree = records.shape
        encrypted = _ciphertexts(here, records)
        full = weights.expand(-1, -1, degree).numpy()
        # SEAL refuses to multiply by zero, which would give a ciphertext that hides nothing.
        plain = {
            (f, j): here.plaintext(full[f, j]) for f, j in np.ndindex(full.shape[:2]) if full[f, j].any()
        }
        result = torch.zeros((blocks, weights.shape[1], 2, degree), dtype=torch.int64)
        for s, j in np.ndindex(blocks, weights.shape[1]):
            pairs = [(encrypted[s, f], plain[f, j]) for f in range(width) if (f, j) in plain]
            if pairs:
                result[s, j] = _sum(here, evaluator, evaluator.multiply_plain, pairs)
        return result

    def gradient(self, records: torch.Tensor, errors: torch.Tensor, modulus: int) -> torch.Tensor:
        """See `Kernel.gradient`."""
        check_product(records, errors, 0, "errors")
        here, evaluator = _ring(records, modulus)
        blocks, width, _, degree = records.shape
        first, second = _ciphertexts(here, records), _ciphertexts(here, errors)
        result = torch.zeros((width, errors.shape[1], 3, degree), dtype=torch.int64)
        for f, j in np.ndindex(width, errors.shape[1]):
            pairs = [(first[s, f], second[s, j]) for s in range(blocks)]
            if pairs:
                result[f, j] = _sum(here, evaluator, evaluator.multiply, pairs)
        return result


def _ring(records: torch.Tensor, modulus: int) -> tuple[SealRing, Any]:
    if records.device.type != "cpu":
        raise InvalidInput("the seal kernel computes on the CPU: move the tensors there")
    here = ring(Parameters(records.shape[-1], modulus))
    return here, here.evaluator


def _ciphertexts(here: SealRing, residues: torch.Tensor) -> dict[tuple[int, int], Any]:
    return {at: here.ciphertext(words) for at, words in _grid(residues)}


def _grid(residues: torch.Tensor) -> Iterator[tuple[tuple[int, int], Integers]]:
    array = residues.numpy()
    for row, column in np.ndindex(array.shape[:2]):
        yield (row, column), array[row, column]


def _sum(here: SealRing, evaluator: Any, multiply: Any, pairs: list[tuple[Any, Any]]) -> torch.Tensor:
    total, term = seal.Ciphertext(), seal.Ciphertext()
    multiply(*pairs[0], total)
    for one, other in pairs[1:]:
        multiply(one, other, term)
        evaluator.add_inplace(total, term)
    return torch.from_numpy(here.words(total))
