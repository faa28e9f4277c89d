"""The CUDA kernel draws what its documentation says: ChaCha20's words, turned into normals."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from secure_train.dp import GaussianNoise
from secure_train.dp.gaussian_cuda import LANES, NORMALS, add_gaussian_cuda

KEY = bytes(range(32))


def reference(size: int, std: float) -> np.ndarray:
    """The same variates from a vetted ChaCha20, in float64."""
    programs = math.ceil(size / (LANES * NORMALS))
    groups = programs * LANES
    # RFC 8439's nonce and counter as the library takes them: 4 bytes of counter, 12 of nonce.
    stream = Cipher(algorithms.ChaCha20(KEY, struct.pack("<4I", 0, 0, 0, 0)), None).encryptor()
    words = np.frombuffer(stream.update(bytes(groups * 3 * 64)), dtype="<u4").reshape(programs, LANES, 3, 16)
    high, low, turn = (words[:, :, kind].astype(np.float64) for kind in range(3))
    radius = std * np.sqrt(-2 * np.log((high + low * 2**-32 + 2**-33) * 2**-32))
    angle = turn * (2 * math.pi * 2**-32)
    out = np.empty((programs, 16, 2, LANES))
    out[:, :, 0] = (radius * np.cos(angle)).transpose(0, 2, 1)
    out[:, :, 1] = (radius * np.sin(angle)).transpose(0, 2, 1)
    return out.reshape(-1)[:size]


@pytest.mark.parametrize("size", [1, 5, 4096, 4097, 200_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_draws_chacha20_normals(size, dtype):
    total = torch.full((size,), 3.0, dtype=dtype, device="cuda")
    add_gaussian_cuda(total, KEY, 2.0)
    found, expected = total.double().cpu().numpy() - 3, reference(size, 2.0)
    tolerance = 3e-5 if dtype is torch.float32 else 1e-9
    assert np.abs(found - expected).max() < tolerance * 10
    assert np.abs(found - expected).mean() < tolerance


def test_noise_at_other_positions_differs_and_repeats_at_its_own():
    noise = GaussianNoise(KEY, 0, 2)
    drawn = []
    for step in (0, 1, 0):
        total = torch.zeros(10_000, device="cuda")
        noise.add_to(total, 1.0, 0, step)
        drawn.append(total)
    assert torch.equal(drawn[0], drawn[2])
    assert abs(float(torch.corrcoef(torch.stack(drawn[:2]))[0, 1])) < 0.05
    assert float(drawn[0].std()) == pytest.approx(math.sqrt(0.5), rel=0.05)
