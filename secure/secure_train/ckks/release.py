"""The only way out: a clipped sum on a public grid, plus discrete Gaussian noise.

No floating-point attack applies: decrypted sums are integers already, in units of 2^-s. They are rounded to a
coarser public grid 2^-g, and an integer from OpenDP's exact discrete Gaussian sampler is added to each. With
noise of deviation S on sums of L2 sensitivity Δ that is Δ²/(2S²)-zCDP (Canonne, Kamath and Steinke, "The
Discrete Gaussian for Differential Privacy", NeurIPS 2020, theorem 14), as for continuous noise. That the
accountant of *sampled* Gaussian sums holds for it too is not proved there; `docs/encrypted-linear.md`.

**Sensitivity** (add or remove one record, of one row). Fix every encryption's randomness; it does not depend
on the records, so a bound for each value of it is a bound for the mixture. Without the record its row
is zero. With η_x, η_d the most that encryption and rounding change a coefficient (headers' `error`), its
presence changes the useful coefficients of a·d, in L2 norm, by at most

    x·d                             C, by clipping
    x∗(errors in d)                 R·m·η_d·√k: the m coefficients of x in a block meet m × m errors of d, for
                                    each of k outputs; blocks add up as squares, and so x counts once
    (errors in a)·d                 η_x·√(F·m)·D
    (rounding of x)∗(errors in d)   η_x·√(F·m)·m·η_d·√k
    (errors in a)·(rounding of d)   η_x·√(F·m)·η_d·√k

in all Δ <= C + R·m·η_d·√k + η_x·√(F·m)·(D + (m+1)·η_d·√k). Errors of d beyond its first n coefficients are of
encryption alone, other records' error signals meet x outside the useful coefficients (`packing`), and masking
does not depend on the record. Rounding both neighbours to the grid adds at most one cell a coordinate, and
biases were rounded to 2^-40 before. A record of several rows (a sequence) counts each row's errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import opendp.prelude as opendp

from secure_train.ckks.encoding import Reals
from secure_train.ckks.errors import InvalidInput, ScaleOverflow
from secure_train.ckks.packing import Integers, Packing

GRID_BITS = 20
BIAS_BITS = 40
"""Sums that were never encrypted are rounded to 2^-40 first."""
_LARGEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What a layer's sensitivity rests on; see the module's text.

    Attributes:
        packing: n and m.
        features: d_in.
        outputs: k.
        records: R, bound of a record's norm.
        errors: D, bound of an error signal's norm.
        records_error: η_x.
        errors_error: η_d.
        rows: a record's rows in this layer: 1, or the positions of a sequence.
    """

    packing: Packing
    features: int
    outputs: int
    records: float
    errors: float
    records_error: float
    errors_error: float
    rows: int = 1

    def excess(self) -> float:
        """By how much encryption and rounding raise a layer's sensitivity above C."""
        wide = self.packing.features
        length = math.sqrt(self.packing.feature_blocks(self.features) * wide)
        spread = self.errors_error * math.sqrt(self.outputs)
        row = self.records * wide * spread
        row += self.records_error * length * (self.errors + (wide + 1) * spread)
        return self.rows * row


def sensitivity(
    clip: float, layers: list[Coefficients], coordinates: int, grid_bits: int = GRID_BITS
) -> float:
    """The most that a whole release moves in L2 norm when a record is added or removed.

    Args:
        clip: C, over all layers together.
        layers: of the encrypted layers.
        coordinates: how many numbers are released.
        grid_bits: of the public grid.
    """
    rounding = math.sqrt(coordinates) * (math.ldexp(1, -grid_bits) + math.ldexp(1, 1 - BIAS_BITS))
    exact = clip + math.sqrt(sum(layer.excess() ** 2 for layer in layers)) + rounding
    # Rounded up: what is computed here in floating point must not be less than the bound.
    return exact * (1 + 1e-9)


def release(integers: Integers, scale_bits: int, deviation: float, *, grid_bits: int = GRID_BITS) -> Reals:
    """Round to the grid, add noise, and return numbers that may leave the custodian once they are charged.

    Fresh operating-system randomness: releasing the same sum again is a new release with a new price. Store
    what is returned durably before showing it.

    Args:
        integers: a clipped sum in units of 2^-scale_bits.
        scale_bits: at least grid_bits.
        deviation: of the noise on each number, in the sum's unit: σ times the sensitivity.
        grid_bits: of the public grid 2^-grid_bits.

    Raises:
        InvalidInput: the deviation is not positive, below a cell, or the grid is finer than the sum's.
        ScaleOverflow: the noise would leave 64-bit integers.
    """
    if not (math.isfinite(deviation) and deviation > 0):
        raise InvalidInput(f"deviation: must be positive and finite, got {deviation!r}")
    if not 0 <= grid_bits <= scale_bits:
        raise InvalidInput(f"grid_bits: must lie in 0 … {scale_bits}, the sum's scale; got {grid_bits}")
    scale = math.ldexp(deviation, grid_bits)
    if scale < 1:
        raise InvalidInput(
            f"deviation: {deviation:g} is below a cell of the grid 2^-{grid_bits}; use a finer grid"
        )
    largest = int(np.abs(integers).max(initial=0)) >> (scale_bits - grid_bits)
    if largest + 64 * scale >= _LARGEST:
        raise ScaleOverflow("deviation: noise and sum would leave 64-bit integers; use a coarser grid")
    noised = np.array(_gaussian(scale)(on_grid(integers, scale_bits, grid_bits).ravel().tolist()), np.int64)
    return np.ldexp(noised.astype(np.float64), -grid_bits).reshape(integers.shape)


def on_grid(integers: Integers, scale_bits: int, grid_bits: int) -> Integers:
    """Round integers in units of 2^-scale_bits to the nearest in units of 2^-grid_bits; ties go up."""
    shift = scale_bits - grid_bits
    return integers if shift == 0 else (integers + (1 << (shift - 1))) >> shift


def _gaussian(scale: float) -> Any:
    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T="i64")), opendp.l2_distance(T="f64")
    return opendp.m.make_gaussian(*space, scale=scale)
