"""Normal variates from a keyed stream cipher, added in place.

Box-Muller (1958) on uniforms from AES-256-CTR (NIST SP 800-38A) on the CPU, and from ChaCha20 (RFC 8439) on
CUDA devices, which have no AES instructions. Both streams are indistinguishable from random to whoever does
not hold the key, unlike the Philox and Mersenne twisters behind torch's own generators.
"""

from __future__ import annotations

import math

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_train.dp.errors import InvalidParameterError

_PAIRS = 1 << 16
"""Pairs of normals made at a time: their words and intermediate results fit a core's cache."""
_WORD = 4
_ZEROS = bytes(3 * _PAIRS * _WORD)


def add_gaussian(total: torch.Tensor, derived_key: bytes, std: float) -> None:
    """Add independent N(0, std²) to every coordinate of a flat tensor, in place.

    A pure function of (derived key, number of coordinates, dtype, kind of device), up to the rounding of
    log, sin and cos, which libraries may change: who relies on equal noise must compare what came out.

    Float caveat: a pair of normals is made of 96 random bits in the tensor's precision. Radii reach 9.4
    standard deviations; beyond that lies a probability of 2^-64, and a shift by d moves at most 2·10⁻²⁰·d/std
    of it over the edge, far below any δ. The variates lie on float's grid, and low-order bits of the sum can
    in principle tell more about the noiseless value than a real Gaussian would (Mironov, CCS 2012).

    Args:
        total: shape (n,), contiguous, float32 or float64.
        derived_key: 32 bytes that are used for this stream only.
        std: standard deviation.

    Raises:
        InvalidParameterError: the tensor is not such a one.
    """
    if total.dtype not in (torch.float32, torch.float64):
        raise InvalidParameterError(f"total: needs float32 or float64 for its noise, got {total.dtype}")
    if total.dim() != 1 or not total.is_contiguous():
        raise InvalidParameterError(f"total: must be flat and contiguous, got shape {tuple(total.shape)}")
    if total.is_cuda:
        # Triton, which compiles the kernel, comes with CUDA builds of torch only.
        from secure_train.dp.gaussian_cuda import add_gaussian_cuda

        add_gaussian_cuda(total, derived_key, std)
    elif total.device.type == "cpu":
        _add_on_cpu(total, derived_key, std)
    else:
        share = torch.zeros(total.shape, dtype=total.dtype)
        _add_on_cpu(share, derived_key, std)
        total.add_(share.to(total.device))


def _add_on_cpu(total: torch.Tensor, derived_key: bytes, std: float) -> None:
    # A zero counter block is sound because every derived key encrypts exactly one stream.
    cipher = Cipher(algorithms.AES256(derived_key), modes.CTR(bytes(16))).encryptor()
    stream = memoryview(bytearray(3 * min(_PAIRS, (total.numel() + 1) // 2) * _WORD))
    for start in range(0, total.numel(), 2 * _PAIRS):
        part = total[start : start + 2 * _PAIRS]
        pairs = (part.numel() + 1) // 2
        cipher.update_into(_ZEROS[: 3 * pairs * _WORD], stream[: 3 * pairs * _WORD])
        words = torch.frombuffer(stream, dtype=torch.uint32, count=3 * pairs)
        _add_pairs(part, *words.view(3, pairs), std=std)


def _add_pairs(
    part: torch.Tensor, high: torch.Tensor, low: torch.Tensor, turn: torch.Tensor, *, std: float
) -> None:
    """Add radius·cos(angle) to the first half and radius·sin(angle) to the second. Words have 32 bits."""
    pairs, dtype = high.numel(), part.dtype
    # The uniform is (high + low/2^32 + 2^-33) / 2^32: never 0, and as precise near 0 as floats are, where
    # the large radii come from.
    uniform = high.to(dtype).add_(low.to(dtype), alpha=2.0**-32).add_(2.0**-33).mul_(2.0**-32)
    radius = uniform.log_().mul_(-2 * std * std).sqrt_()
    angle = turn.to(dtype).mul_(2 * math.pi * 2.0**-32)
    part[:pairs].addcmul_(radius, angle.cos())
    rest = part.numel() - pairs
    part[pairs:].addcmul_(radius[:rest], angle.sin_()[:rest])
