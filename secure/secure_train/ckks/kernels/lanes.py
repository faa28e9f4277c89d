"""The inner loop of the fused kernel: exact 102-bit products in float64, summed up lazily in integers.

For integers 0 <= a, b < 2^51 held as float64, and C = 3·2^102, D = 3·2^51 (Emmart, Zheng and Weems, "Faster
modular exponentiation using double precision floating point arithmetic on the GPU", ARITH 2018):

    h = fma(a, b, C)            C <= C + a·b < 2^104: ulp 2^51, so h = C + 2^51·H, |a·b - 2^51·H| <= 2^50
    l = fma(a, b, (C + D) - h)  C + D and (C + D) - h are multiples of 2^51 that fit; so l = D + L exactly,
                                L = a·b - 2^51·H in [-2^50, 2^50], and l in [2^52, 2^53) has ulp 1

All h share one exponent, and all l do, so their bit patterns are `bits(C) + H` and `bits(D) + L`: summing the
patterns as 64-bit integers sums H and L. Nothing is reduced until the end. H < 2^51, so 4096 terms stay below
2^63 once the constants are taken off (everything modulo 2^64).

`tile` is written as LLVM vector instructions of four lanes, since no loop vectoriser keeps sums in registers
across an outer loop. LLVM makes them whatever the machine has; without a fused multiply-add in hardware they
are slow and still exact.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 4
MOST_TERMS = 4096
C = 3.0 * 2.0**102
D = 3.0 * 2.0**51
C_BITS = struct.unpack("<q", struct.pack("<d", C))[0]
D_BITS = struct.unpack("<q", struct.pack("<d", D))[0]

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(64), LANES)
_ALIGNMENT = 8


@intrinsic
def fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def as_integer(_typing: Any, value: Any) -> Any:
    """The bit pattern of a float64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def as_float(_typing: Any, value: Any) -> Any:
    """The float64 of a bit pattern."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def tile(_typing: Any, left: Any, right: Any, terms: Any, high: Any, low: Any, stride: Any) -> Any:
    """Sum 2 × 2 products over terms, in four lanes.

    Args:
        left: address of float64 (terms, 2, 4).
        right: address of float64 (terms, 2, 4).
        terms: at least 1.
        high: address of int64; sum (i, j) goes to the four at high + (2i + j)·stride.
        low: as high.
        stride: in bytes.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _generate_tile(builder, *arguments)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(*[types.intp] * 6), generate


def _generate_tile(builder: Any, left: Any, right: Any, terms: Any, high: Any, low: Any, stride: Any) -> None:
    word = ir.IntType(64)
    fused = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_DOUBLES, [_DOUBLES] * 3), f"llvm.fma.v{LANES}f64"
    )
    before = builder.block
    loop, after = builder.append_basic_block("terms"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(word)
    index.add_incoming(ir.Constant(word, 0), before)
    sums = [builder.phi(_INTEGERS) for _ in range(8)]
    for total in sums:
        total.add_incoming(ir.Constant(_INTEGERS, [0] * LANES), before)
    offset = builder.mul(index, ir.Constant(word, 2 * LANES * 8))
    rows = [_load(builder, left, offset, i) for i in range(2)]
    columns = [_load(builder, right, offset, j) for j in range(2)]
    updated = []
    for i in range(2):
        for j in range(2):
            high_part = builder.call(fused, [rows[i], columns[j], _constant(C)])
            rest = builder.fsub(_constant(C + D), high_part)
            low_part = builder.call(fused, [rows[i], columns[j], rest])
            updated.append(builder.add(sums[4 * i + 2 * j], builder.bitcast(high_part, _INTEGERS)))
            updated.append(builder.add(sums[4 * i + 2 * j + 1], builder.bitcast(low_part, _INTEGERS)))
    following = builder.add(index, ir.Constant(word, 1))
    index.add_incoming(following, builder.block)
    for total, value in zip(sums, updated, strict=True):
        total.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, terms), loop, after)
    builder.position_at_end(after)
    for place in range(4):
        at = builder.mul(stride, ir.Constant(word, place))
        for base, value in ((high, updated[2 * place]), (low, updated[2 * place + 1])):
            pointer = builder.inttoptr(builder.add(base, at), _INTEGERS.as_pointer())
            builder.store(value, pointer, align=_ALIGNMENT)


def _load(builder: Any, base: Any, offset: Any, part: int) -> Any:
    address = builder.add(builder.add(base, offset), ir.Constant(ir.IntType(64), part * LANES * 8))
    return builder.load(builder.inttoptr(address, _DOUBLES.as_pointer()), align=_ALIGNMENT)


def _constant(value: float) -> Any:
    return ir.Constant(_DOUBLES, [value] * LANES)
