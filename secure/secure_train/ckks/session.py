"""The custodian's side of a layer's products: numbers in, ciphertexts out and back, numbers out.

Products are linear in each record's row, so rows longer than the public bound are scaled down before they are
encrypted and their results scaled up again; nothing is refused for what it holds. Rows that are not finite
are encrypted as zeros, and their results are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from secure_train.ckks.encoding import Reals
from secure_train.ckks.encryptor import HomoEncryptor
from secure_train.ckks.errors import InvalidInput
from secure_train.ckks.packing import Integers
from secure_train.ckks.plan import Plan
from secure_train.ckks.tensor import CipherTensor
from secure_train.ckks.workers import Workers


@dataclass(frozen=True, slots=True)
class EncryptedRows:
    """Records or activations as the workers have them.

    Attributes:
        tensor: content `records`; row i holds row i of the plaintext divided by factors[i].
        factors: shape (B,), at least 1; NaN for a row that was not finite. Private.
        norms: shape (B,): a bound of each plaintext row's L2 norm. Private unless it is the public one.
        values: shape (B, d): the plaintext, where the custodian has it. Private.
    """

    tensor: CipherTensor
    factors: Reals = field(repr=False)
    norms: Reals = field(repr=False)
    values: Reals | None = field(repr=False)

    @classmethod
    def of_records(cls, records: CipherTensor, norms: Reals | None = None) -> EncryptedRows:
        """A dataset that was encrypted beforehand. Without norms the public bound stands for each (pooled).

        Raises:
            InvalidInput: there are not as many norms as records, or one exceeds the public bound.
        """
        rows, bound = records.header.shape[0], records.header.bound
        known = np.full(rows, bound) if norms is None else np.asarray(norms, np.float64)
        if known.shape != (rows,) or not (known <= bound * (1 + 1e-9)).all():
            raise InvalidInput(f"norms: need {rows} numbers up to the records' bound {bound:g}")
        return cls(records, np.ones(rows), known, None)


@dataclass(frozen=True, slots=True)
class Session:
    """One layer's products: who encrypts, who multiplies, and the plan they agreed on."""

    encryptor: HomoEncryptor
    workers: Workers
    plan: Plan

    def encrypt(self, rows: Reals) -> EncryptedRows:
        """Encrypt rows (B, d) for products with weights and error signals."""
        bound = self.plan.limits.records
        scaled, factors = within(rows, bound)
        tensor = self.encryptor.encrypt_records(
            scaled,
            bound=bound,
            samples_per_block=self.plan.packing.samples,
            scale_bits=self.plan.record_scale_bits,
        )
        return EncryptedRows(tensor, factors, np.linalg.norm(scaled, axis=1) * factors, rows)

    def forward(self, rows: EncryptedRows, weights: Reals) -> Reals:
        """Rows (B, d) times weights (d, k): (B, k). Weights go to the workers."""
        outputs = self.workers.forward(rows.tensor, weights, self.plan.scale_bits)
        return self.encryptor.decrypt(outputs) * rows.factors[:, None]

    def gradient(self, rows: EncryptedRows, errors: Reals, clip: float | None = None) -> tuple[Integers, int]:
        """Rows (B, d) transposed times error signals (B, k): exact integers (d, k), and their scale's bits.

        Error signals of rows that were not finite are taken as zero.

        Raises:
            InvalidInput: an error signal, times its row's factor, is longer than the plan's public bound.
        """
        factors = np.where(np.isnan(rows.factors), 0.0, rows.factors)[:, None]
        usable = np.where(factors > 0, errors, 0.0)
        encrypted = self.encryptor.encrypt_errors(
            usable * factors,
            bound=self.plan.limits.errors,
            samples_per_block=self.plan.packing.samples,
            scale_bits=self.plan.scale_bits,
        )
        product = self.workers.gradient(rows.tensor, encrypted, clip)
        return self.encryptor.decrypt_integers(product), product.header.scale_bits


def within(rows: Reals, bound: float) -> tuple[Reals, Reals]:
    """Rows scaled to at most a norm, and by what they were divided: (B, d), (B,)."""
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    clean = np.where(finite[:, None], rows, 0.0)
    # Two steps: the square of a large number may not be finite.
    largest = np.maximum(np.abs(clean).max(axis=1, initial=0.0), np.finfo(np.float64).tiny)
    norms = np.linalg.norm(clean / largest[:, None], axis=1) * largest
    factors = np.maximum(norms / bound, 1.0)
    return clean / factors[:, None], np.where(finite, factors, np.nan)
