"""What a kernel is, and which one to take."""

from __future__ import annotations

from typing import Protocol

import torch

from secure_train.ckks.errors import InvalidInput, KernelUnavailable

FUSED_MODULUS_BITS = 51
"""The widest prime that the fused CPU kernel takes; see its module."""


class Kernel(Protocol):
    """Two products over Z_q, at each of N positions by itself. Residues and results are int64 in [0, q).

    S sample blocks, F feature blocks, k outputs.
    """

    name: str

    def forward(self, records: torch.Tensor, weights: torch.Tensor, modulus: int) -> torch.Tensor:
        """Sum records·weights over feature blocks.

        Args:
            records: (S, F, 2, N).
            weights: (F, k, N), or (F, k, 1) where every position has the same number.
            modulus: q.

        Returns:
            (S, k, 2, N).

        Raises:
            KernelUnavailable: not with this modulus, or not here.
        """

    def gradient(self, records: torch.Tensor, errors: torch.Tensor, modulus: int) -> torch.Tensor:
        """Sum products of ciphertexts over sample blocks: components a0·b0, a0·b1 + a1·b0, a1·b1.

        Args:
            records: (S, F, 2, N).
            errors: (S, k, 2, N).
            modulus: q.

        Returns:
            (F, k, 3, N).

        Raises:
            KernelUnavailable: not with this modulus, or not here.
        """


def kernel(name: str) -> Kernel:
    """A kernel by name: seal, torch or fused. Imported when asked for: each needs a library of its own."""
    if name == "torch":
        from secure_train.ckks.kernels.gemm import TorchKernel

        return TorchKernel()
    if name == "fused":
        from secure_train.ckks.kernels.fused import FusedKernel

        return FusedKernel()
    if name == "seal":
        from secure_train.ckks.kernels.reference import SealKernel

        return SealKernel()
    raise InvalidInput(f"kernel: {name!r} is none of seal, torch, fused")


def best_kernel(device: torch.device, modulus: int) -> Kernel:
    """The fastest kernel for residues on a device."""
    fused = device.type == "cpu" and modulus.bit_length() <= FUSED_MODULUS_BITS
    return kernel("fused" if fused else "torch")


def check_product(records: torch.Tensor, other: torch.Tensor, common: int, name: str) -> None:
    """Check that shapes fit: `common` is the axis of records that is summed over.

    Raises:
        InvalidInput: they do not.
    """
    fits = records.ndim == 4 and other.ndim >= 3 and records.shape[common] == other.shape[0]
    if not fits or other.shape[-1] not in (1, records.shape[-1]):
        raise InvalidInput(f"{name}: {tuple(other.shape)} does not fit records of {tuple(records.shape)}")


def require_bits(name: str, modulus: int, most: int) -> None:
    """Refuse a modulus that is too wide for a kernel.

    Raises:
        KernelUnavailable: it is.
    """
    if modulus.bit_length() > most:
        raise KernelUnavailable(
            f"the {name} kernel computes with at most {most} bits, the modulus has {modulus.bit_length()}: "
            "use the torch kernel, or parameters with a narrower prime"
        )
