"""How far an encrypted product can be from the true one: the worst case, and the standard deviation.

Units are those of the plaintext. For records |x_i| <= R (rows), error signals |d_i| <= D (rows), weights w_j
(columns), and η the most that encryption and rounding change one coefficient (a header's `error`):

    z_ij = Σ_f x_if·w_fj        error at most  η_x·|w_j|_1 + r_w·R·√d + d·η_x·r_w
    g_fj = Σ_i x_if·d_ij        error at most  η_d·B·R·√m + η_x·B·D + S·N·η_x·η_d

where r_w is the rounding of weights, and since the first factor's m·B true coefficients in a column of blocks
meet errors of the other, and so on: a product of polynomials sums N products of coefficients in each of S
blocks. Errors are independent between coefficients and have mean zero, so what is to be expected is much
smaller: a standard deviation σ for η, and root sums of squares for sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from secure_train.ckks.encoding import Reals, rounding_error
from secure_train.ckks.packing import Packing
from secure_train.ckks.parameters import EncryptedBy


@dataclass(frozen=True, slots=True)
class Fresh:
    """A coefficient of a fresh ciphertext: what it may be off by.

    Attributes:
        worst: always at most this.
        deviation: standard deviation.
    """

    worst: float
    deviation: float

    @classmethod
    def at(cls, by: EncryptedBy, ring_degree: int, scale_bits: int) -> Fresh:
        """The error of encryption, and of rounding, which is uniform."""
        unit = math.ldexp(1.0, -scale_bits)
        variance = by.noise_variance(ring_degree) + 1 / 12
        return cls(
            unit * by.noise_bound(ring_degree) + rounding_error(scale_bits), unit * math.sqrt(variance)
        )


def forward_bound(records_bound: float, weights: Reals) -> float:
    """The most that an output can be: Cauchy and Schwarz."""
    longest: float = np.linalg.norm(weights, axis=0).max(initial=0.0)
    return records_bound * float(longest)


def forward_error(error: float, records_bound: float, weights: Reals, weight_bits: int) -> float:
    """The worst case of a forward product's error."""
    features: int = weights.shape[0]
    rounding = rounding_error(weight_bits)
    sum_of_weights: float = np.abs(weights).sum(axis=0).max(initial=0.0)
    return error * float(sum_of_weights) + rounding * (records_bound * math.sqrt(features) + features * error)


def gradient_error(
    records_error: float,
    errors_error: float,
    records_bound: float,
    errors_bound: float,
    samples: int,
    packing: Packing,
) -> float:
    """The worst case of a gradient product's error."""
    blocks = packing.sample_blocks(samples)
    return (
        errors_error * samples * records_bound * math.sqrt(packing.features)
        + records_error * samples * errors_bound
        + blocks * packing.ring_degree * records_error * errors_error
    )


def forward_deviation(fresh: Fresh, weight_norm: float, records_bound: float, weight_bits: int) -> float:
    """The standard deviation of a forward product's error, for a column of weights of that L2 norm."""
    rounding = math.ldexp(1.0, -weight_bits) / math.sqrt(12)
    return math.hypot(fresh.deviation * weight_norm, rounding * records_bound)


def gradient_deviation(
    records: Fresh, errors: Fresh, records_bound: float, errors_bound: float, samples: int, packing: Packing
) -> float:
    """The standard deviation of a gradient product's error, at most."""
    blocks = packing.sample_blocks(samples)
    return math.hypot(
        errors.deviation * records_bound * math.sqrt(samples),
        records.deviation * errors_bound * math.sqrt(samples),
        records.deviation * errors.deviation * math.sqrt(blocks * packing.ring_degree),
    )
