"""The CPU kernel: packs a slice of positions into cache, multiplies without reducing, reduces once.

Compiled by numba when it is first used (a second or two): installing needs no C compiler. It releases the GIL
and spreads over as many threads as torch may use.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from numba import njit

from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.kernels.base import FUSED_MODULUS_BITS, check_product, require_bits
from secure_train.ckks.kernels.lanes import C_BITS, D_BITS, LANES, MOST_TERMS, as_float, as_integer, fma, tile
from secure_train.ckks.packing import Integers

_SLICE = 64
"""Positions at a time: the packed records and weights of a slice stay in the second-level cache."""
_TILES = _SLICE // LANES
_EXPONENT = 0x4330000000000000  # the bit pattern of 2^52: or'ed with an integer below 2^52, their sum
_TWO_52 = 2.0**52
_THREE_2_51 = 3.0 * 2.0**51
_MASK_32 = (1 << 32) - 1

Numbers: TypeAlias = tuple[float, float, float, float, float, float, int]
"""q, 1/q, 2^83, 2^51, 2^32 and -terms·2^50 modulo q, and how many terms were summed."""


class FusedKernel:
    """See the module's text."""

    name = "fused"

    def forward(self, records: torch.Tensor, weights: torch.Tensor, modulus: int) -> torch.Tensor:
        """See `Kernel.forward`."""
        check_product(records, weights, 1, "weights")
        left, right = _array(records, modulus), _array(weights, modulus)
        blocks, width, _, degree = left.shape
        result = np.zeros((blocks, right.shape[1], 2, degree), np.int64)
        for at in range(0, width, MOST_TERMS):
            part = slice(at, at + MOST_TERMS)
            numbers = _constants(modulus, min(MOST_TERMS, width - at))
            _spread(blocks, _forward, left[:, part], right[part], result, numbers)
        return torch.from_numpy(result)

    def gradient(self, records: torch.Tensor, errors: torch.Tensor, modulus: int) -> torch.Tensor:
        """See `Kernel.gradient`."""
        check_product(records, errors, 0, "errors")
        left, right = _array(records, modulus), _array(errors, modulus)
        blocks, width, _, degree = left.shape
        result = np.zeros((width, right.shape[1], 3, degree), np.int64)
        most = MOST_TERMS // 2  # the middle component is two sums
        for at in range(0, blocks, most):
            part, terms = slice(at, at + most), min(most, blocks - at)
            numbers, doubled = _constants(modulus, terms), _constants(modulus, 2 * terms)
            _spread(width, _gradient, left[part].swapaxes(0, 1), right[part], result, numbers, doubled)
        return torch.from_numpy(result)


def _array(residues: torch.Tensor, modulus: int) -> Integers:
    require_bits("fused", modulus, FUSED_MODULUS_BITS)
    if residues.device.type != "cpu":
        raise InvalidInput("the fused kernel computes on the CPU: use the torch kernel, or move the tensors")
    return residues.numpy()


def _spread(
    count: int, work: Callable[..., None], left: Any, right: Any, out: Any, *numbers: Numbers
) -> None:
    """Run work on ranges of the first axis of `left` and `out`, in as many threads as torch may use."""
    threads = max(1, min(torch.get_num_threads(), count))
    ranges = [slice(*ends) for ends in pairwise(count * number // threads for number in range(threads + 1))]
    if threads == 1:
        work(left, right, out, *numbers)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, left[at], right, out[at], *numbers) for at in ranges]:
            done.result()


def _constants(modulus: int, terms: int) -> Numbers:
    weights = [float(pow(2, power, modulus)) for power in (83, 51, 32)]
    shift = float(-(terms << 50) % modulus)
    return float(modulus), 1.0 / modulus, weights[0], weights[1], weights[2], shift, terms


@njit(nogil=True, error_model="numpy")
def _float(value: int) -> float:
    """0 <= value < 2^52 as float64, in operations that vectorise."""
    shifted: float = as_float(value | _EXPONENT)
    return shifted - _TWO_52


@njit(nogil=True, error_model="numpy")
def _round(value: float) -> float:
    """The nearest integer to |value| < 2^51; a sum and a difference vectorise, a library call might not."""
    return (value + _THREE_2_51) - _THREE_2_51


@njit(nogil=True, error_model="numpy")
def _times(value: float, factor: float, modulus: float, inverse: float) -> float:
    """value·factor modulo q within ±0.51·q, for integers value < 2^32, factor < q < 2^51; exact."""
    high = value * factor
    low: float = fma(value, factor, -high)
    rest: float = fma(-_round(high * inverse), modulus, high)
    return rest + low


@njit(nogil=True, error_model="numpy")
def _reduce(high: Any, low: Any, out: Any, numbers: Numbers) -> None:
    """Add (Σh·2^51 + Σl) mod q to out, for the sums of `lanes.tile`; all parts are integers below 2^53."""
    q, inverse, w83, w51, w32, shift, terms = numbers
    for p in range(_SLICE):
        h = high[p] - terms * C_BITS
        # The low sum may be negative: shifted up by terms·2^50, which `shift` takes off again.
        s = low[p] - terms * D_BITS + (terms << 50)
        value = _times(_float(h >> 32), w83, q, inverse) + _times(_float(h & _MASK_32), w51, q, inverse)
        value += _times(_float(s >> 32), w32, q, inverse) + _float(s & _MASK_32) + shift
        value += _float(out[p])
        value = fma(-_round(value * inverse), q, value)
        value = value + q if value < 0 else value
        out[p] = as_integer(value + _TWO_52) - _EXPONENT


@njit(nogil=True, error_model="numpy")
def _pack(source: Any, start: int, into: Any) -> None:
    """int64 (t, 1 or 2, N) from a position on, to float64 (tiles, t, 2, lanes). Where N is 1, it is repeated.

    What has one side only leaves the other one as it is.
    """
    step = 0 if source.shape[2] == 1 else 1
    start *= step
    for t in range(source.shape[0]):
        for side in range(source.shape[1]):
            row = source[t, side]
            for at in range(_TILES):
                for lane in range(LANES):
                    into[at, t, side, lane] = _float(row[start + step * (at * LANES + lane)])


@njit(nogil=True, error_model="numpy")
def _multiply(left: Any, right: Any, high: Any, low: Any) -> None:
    """All tiles of a slice; sums to high and low, (4, slice)."""
    terms = left.shape[1]
    for at in range(_TILES):
        tile(
            left[at].ctypes.data,
            right[at].ctypes.data,
            terms,
            high.ctypes.data + 8 * LANES * at,
            low.ctypes.data + 8 * LANES * at,
            8 * _SLICE,
        )


@njit(nogil=True, error_model="numpy")
def _forward(records: Any, weights: Any, out: Any, numbers: Numbers) -> None:
    blocks, width = records.shape[0], records.shape[1]
    outputs = weights.shape[1]
    pairs = (outputs + 1) // 2
    packed_records = np.empty((_TILES, width, 2, LANES))
    packed_weights = np.zeros((pairs, _TILES, width, 2, LANES))
    high, low = np.empty((4, _SLICE), np.int64), np.empty((4, _SLICE), np.int64)
    for start in range(0, records.shape[3], _SLICE):
        for pair in range(pairs):
            # The last pair of an odd number stays half zero; what that half computes is not written.
            _pack(weights[:, 2 * pair : 2 * pair + 2], start, packed_weights[pair])
        for s in range(blocks):
            _pack(records[s], start, packed_records)
            for pair in range(pairs):
                _multiply(packed_records, packed_weights[pair], high, low)
                for component in range(2):
                    for side in range(min(2, outputs - 2 * pair)):
                        sums = 2 * component + side
                        row = out[s, 2 * pair + side, component, start : start + _SLICE]
                        _reduce(high[sums], low[sums], row, numbers)


@njit(nogil=True, error_model="numpy")
def _gradient(records: Any, errors: Any, out: Any, numbers: Numbers, doubled: Numbers) -> None:
    width, blocks = records.shape[0], records.shape[1]
    outputs = errors.shape[1]
    packed_records = np.empty((_TILES, blocks, 2, LANES))
    packed_errors = np.empty((outputs, _TILES, blocks, 2, LANES))
    high, low = np.empty((4, _SLICE), np.int64), np.empty((4, _SLICE), np.int64)
    for start in range(0, records.shape[3], _SLICE):
        for j in range(outputs):
            _pack(errors[:, j], start, packed_errors[j])
        for f in range(width):
            _pack(records[f], start, packed_records)
            for j in range(outputs):
                _multiply(packed_records, packed_errors[j], high, low)
                rows = out[f, j, :, start : start + _SLICE]
                _reduce(high[0], low[0], rows[0], numbers)
                for p in range(_SLICE):
                    high[1, p] += high[2, p]
                    low[1, p] += low[2, p]
                _reduce(high[1], low[1], rows[1], doubled)
                _reduce(high[3], low[3], rows[2], numbers)
