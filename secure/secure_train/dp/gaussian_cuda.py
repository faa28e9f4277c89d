"""The normal variates of `gaussian` on CUDA devices: ChaCha20 (RFC 8439 §2.3) and Box-Muller in one kernel.

The keystream never reaches memory: each lane computes three blocks of it in registers and turns their 48
words into 32 normals, so the kernel reads and writes the tensor once and is otherwise bound by arithmetic.
"""

from __future__ import annotations

import math
import struct

import torch
import triton
import triton.language as tl

LANES = 128
"""Lanes of a program, hence groups of three keystream blocks that it computes."""
NORMALS = 32
"""Normals made of three blocks."""


@triton.jit
def _rotated(x, n: tl.constexpr):
    return (x << n) | (x >> (32 - n))


@triton.jit
def _quarter(a, b, c, d):
    a = a + b
    d = _rotated(d ^ a, 16)
    c = c + d
    b = _rotated(b ^ c, 12)
    a = a + b
    d = _rotated(d ^ a, 8)
    c = c + d
    b = _rotated(b ^ c, 7)
    return a, b, c, d


@triton.jit
def _block(k0, k1, k2, k3, k4, k5, k6, k7, count):
    """ChaCha20's block function with block counter `count` and a zero nonce: 16 words."""
    zero = count ^ count
    c0, c1, c2, c3 = zero + 0x61707865, zero + 0x3320646E, zero + 0x79622D32, zero + 0x6B206574
    j0, j1, j2, j3 = zero + k0, zero + k1, zero + k2, zero + k3
    j4, j5, j6, j7 = zero + k4, zero + k5, zero + k6, zero + k7
    a0, a1, a2, a3, a4, a5, a6, a7 = c0, c1, c2, c3, j0, j1, j2, j3
    a8, a9, a10, a11, a12, a13, a14, a15 = j4, j5, j6, j7, count, zero, zero, zero
    # A loop of the device: unrolled, the three blocks take minutes to compile.
    for _ in range(10):
        a0, a4, a8, a12 = _quarter(a0, a4, a8, a12)
        a1, a5, a9, a13 = _quarter(a1, a5, a9, a13)
        a2, a6, a10, a14 = _quarter(a2, a6, a10, a14)
        a3, a7, a11, a15 = _quarter(a3, a7, a11, a15)
        a0, a5, a10, a15 = _quarter(a0, a5, a10, a15)
        a1, a6, a11, a12 = _quarter(a1, a6, a11, a12)
        a2, a7, a8, a13 = _quarter(a2, a7, a8, a13)
        a3, a4, a9, a14 = _quarter(a3, a4, a9, a14)
    return (
        a0 + c0, a1 + c1, a2 + c2, a3 + c3, a4 + j0, a5 + j1, a6 + j2, a7 + j3,
        a8 + j4, a9 + j5, a10 + j6, a11 + j7, a12 + count, a13, a14, a15,
    )  # fmt: skip


@triton.jit
def _pair(total, at, size, high, low, turn, std, lanes: tl.constexpr, dtype: tl.constexpr):
    uniform = (high.to(dtype) + low.to(dtype) * 2.3283064365386963e-10 + 1.1641532182693481e-10) * (
        2.3283064365386963e-10
    )
    radius = tl.sqrt(-2.0 * tl.log(uniform)) * std
    angle = turn.to(dtype) * 1.4629180792671596e-09
    first, second = at < size, at + lanes < size
    tl.store(total + at, tl.load(total + at, first) + (radius * tl.cos(angle)).to(dtype), first)
    after = at + lanes
    tl.store(total + after, tl.load(total + after, second) + (radius * tl.sin(angle)).to(dtype), second)


@triton.jit(do_not_specialize=["size", "std"])
def _kernel(total, size, key, std, lanes: tl.constexpr, dtype: tl.constexpr):
    program = tl.program_id(0)
    lane = tl.arange(0, lanes)
    group = (program * lanes + lane).to(tl.uint32)
    k0, k1 = tl.load(key).to(tl.uint32), tl.load(key + 1).to(tl.uint32)
    k2, k3 = tl.load(key + 2).to(tl.uint32), tl.load(key + 3).to(tl.uint32)
    k4, k5 = tl.load(key + 4).to(tl.uint32), tl.load(key + 5).to(tl.uint32)
    k6, k7 = tl.load(key + 6).to(tl.uint32), tl.load(key + 7).to(tl.uint32)
    high = _block(k0, k1, k2, k3, k4, k5, k6, k7, group * 3)
    low = _block(k0, k1, k2, k3, k4, k5, k6, k7, group * 3 + 1)
    turn = _block(k0, k1, k2, k3, k4, k5, k6, k7, group * 3 + 2)
    start = program.to(tl.int64) * (lanes * 32) + lane
    for i in tl.static_range(16):
        _pair(total, start + i * 2 * lanes, size, high[i], low[i], turn[i], std, lanes, dtype)


def add_gaussian_cuda(total: torch.Tensor, derived_key: bytes, std: float) -> None:
    """Add independent N(0, std²) to every coordinate of a flat CUDA tensor, in place; no synchronisation.

    Group g of 32 coordinates takes keystream blocks 3g, 3g + 1 and 3g + 2 (counter, zero nonce): the high
    and the low half of the uniform behind each radius, and the angle. 2^32 blocks are enough for 4.5·10¹⁰
    coordinates.
    """
    words = struct.unpack("<8i", derived_key)
    key = torch.tensor(words, dtype=torch.int32).to(total.device, non_blocking=True)
    programs = math.ceil(total.numel() / (LANES * NORMALS))
    kind = tl.float64 if total.dtype == torch.float64 else tl.float32
    if programs:
        with torch.cuda.device(total.device):
            _kernel[(programs,)](total, total.numel(), key, std, LANES, kind, num_warps=LANES // 32)
