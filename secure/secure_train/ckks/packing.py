"""How matrices of numbers become polynomials, so that products of polynomials hold products of matrices.

A block holds m features of n samples, m·n = N, both powers of two. In R = Z_q[X]/(X^N + 1):

    records  A (m × n)   a(X) = Σ_{f,i} A[f,i]·X^{fn+i}
    weights  w (m)       w(X) = w_0 - Σ_{g>=1} w_g·X^{N-gn}
    errors   d (n)       d(X) = Σ_j d_j·X^{n-1-j}

**Forward.** Coefficient i of a·w, 0 <= i < n, is exactly Σ_f w_f·A[f,i].
Proof. The term of A[f,i] and w_0 has exponent fn+i, which is below n only for f = 0, and then is i. That of
A[f,i] and -w_g, g >= 1, has exponent N + (f-g)n + i. For f >= g it wraps once, X^N = -1 turns the sign, and
w_g·A[f,i] lands on (f-g)n + i, which is below n only for f = g, and then is i. For f < g it does not wrap,
and since g - f <= m - 1 the exponent is at least N - (m-1)n + i = n + i, so never below n. ∎

**Gradient.** Coefficient fn+n-1 of a·d is exactly Σ_i A[f,i]·d_i.
Proof. The term of A[f,i] and d_j has exponent fn + n-1 + (i-j) with |i-j| < n, and so is = n-1 mod n only for
i = j. Wrapping changes an exponent by N, a multiple of n, hence not that property. For i = j the exponent is
fn + n-1 <= N-1: it does not wrap, and no other f lands there. ∎

The other coefficients are cross terms between records and features; see `compute.mask`.

For n = N (m = 1) weights are constants, whose NTT form is the same number everywhere: "feature-major". All N
coefficients of an output are useful; of a gradient only one is. For small n it is the other way round. The
number of modular multiply-adds is the same for every n, so the planner chooses n by what has to be encrypted,
encoded and decrypted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secure_train.ckks.errors import InvalidInput

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packing:
    """The shape of blocks.

    Attributes:
        ring_degree: N.
        samples: n, the number of samples in a block; a power of two up to N.
    """

    ring_degree: int
    samples: int

    def __post_init__(self) -> None:
        if not (1 <= self.samples <= self.ring_degree and self.samples.bit_count() == 1):
            raise InvalidInput(
                f"samples_per_block: must be a power of two up to {self.ring_degree}, got {self.samples}"
            )

    @property
    def features(self) -> int:
        """The number m of features in a block."""
        return self.ring_degree // self.samples

    @property
    def constant_weights(self) -> bool:
        """Whether weights are constant polynomials (n = N)."""
        return self.features == 1

    def sample_blocks(self, samples: int) -> int:
        """The number S of blocks that so many samples take."""
        return -(-samples // self.samples)

    def feature_blocks(self, features: int) -> int:
        """The number F of blocks that so many features take."""
        return -(-features // self.features)

    def pack_records(self, records: Integers) -> Integers:
        """(B, d) to coefficients (S, F, N)."""
        blocks, width = self.sample_blocks(records.shape[0]), self.feature_blocks(records.shape[1])
        padded = _padded(records, blocks * self.samples, width * self.features)
        shaped = padded.reshape(blocks, self.samples, width, self.features)
        return np.ascontiguousarray(shaped.transpose(0, 2, 3, 1)).reshape(blocks, width, self.ring_degree)

    def pack_weights(self, weights: Integers) -> Integers:
        """(d, k) to coefficients (F, k, N)."""
        width, outputs = self.feature_blocks(weights.shape[0]), weights.shape[1]
        padded = _padded(weights, width * self.features, outputs)
        columns = padded.reshape(width, self.features, outputs).transpose(0, 2, 1)
        packed = np.zeros((width, outputs, self.ring_degree), np.int64)
        packed[..., 0] = columns[..., 0]
        packed[..., self.ring_degree - np.arange(1, self.features) * self.samples] = -columns[..., 1:]
        return packed

    def pack_errors(self, errors: Integers) -> Integers:
        """(B, k) to coefficients (S, k, N)."""
        blocks, outputs = self.sample_blocks(errors.shape[0]), errors.shape[1]
        padded = _padded(errors, blocks * self.samples, outputs)
        packed = np.zeros((blocks, outputs, self.ring_degree), np.int64)
        columns = padded.reshape(blocks, self.samples, outputs).transpose(0, 2, 1)
        packed[..., : self.samples] = columns[..., ::-1]
        return packed

    def output_positions(self) -> Integers:
        """The coefficients of a forward product that are outputs, in order of samples; shape (n,)."""
        return np.arange(self.samples)

    def gradient_positions(self) -> Integers:
        """The coefficients of a gradient product that are gradients, in order of features; shape (m,)."""
        return np.arange(self.features) * self.samples + self.samples - 1

    def unpack_outputs(self, packed: Integers, samples: int) -> Integers:
        """Coefficients (S, k, N) to (B, k)."""
        useful = packed[..., self.output_positions()]
        return useful.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:samples]

    def unpack_gradient(self, packed: Integers, features: int) -> Integers:
        """Coefficients (F, k, N) to (d, k)."""
        useful = packed[..., self.gradient_positions()]
        return useful.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:features]

    def unpack_records(self, packed: Integers, samples: int, features: int) -> Integers:
        """Coefficients (S, F, N) back to (B, d)."""
        blocks, width = packed.shape[:2]
        shaped = packed.reshape(blocks, width, self.features, self.samples).transpose(0, 3, 1, 2)
        return shaped.reshape(blocks * self.samples, -1)[:samples, :features]

    def unpack_errors(self, packed: Integers, samples: int) -> Integers:
        """Coefficients (S, k, N) back to (B, k)."""
        useful = packed[..., : self.samples][..., ::-1]
        return useful.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:samples]


def _padded(matrix: Integers, rows: int, columns: int) -> Integers:
    padded = np.zeros((rows, columns), np.int64)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded
