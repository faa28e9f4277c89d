"""The compute side of a layer, as a layer sees it; and one in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from secure_train.ckks.compute import forward, gradient
from secure_train.ckks.encoding import Reals
from secure_train.ckks.kernels import Kernel
from secure_train.ckks.keys import PublicKey
from secure_train.ckks.masking import mask
from secure_train.ckks.tensor import CipherTensor


class Workers(Protocol):
    """Whoever multiplies ciphertexts. They hold no secret key, and see weights that are noised."""

    def forward(self, records: CipherTensor, weights: Reals, scale_bits: int) -> CipherTensor:
        """Masked encrypted outputs (B, k) of encrypted records (B, d) and weights (d, k)."""

    def gradient(self, records: CipherTensor, errors: CipherTensor, clip: float | None) -> CipherTensor:
        """The masked encrypted gradient (d, k) of encrypted records (B, d) and error signals (B, k)."""


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """One worker, in this process.

    Attributes:
        public: to mask products with.
        kernel: the fastest for the device, unless given.
    """

    public: PublicKey
    kernel: Kernel | None = None

    def forward(self, records: CipherTensor, weights: Reals, scale_bits: int) -> CipherTensor:
        """See `Workers.forward`."""
        return mask(forward(records, weights, scale_bits=scale_bits, kernel=self.kernel), self.public)

    def gradient(self, records: CipherTensor, errors: CipherTensor, clip: float | None) -> CipherTensor:
        """See `Workers.gradient`."""
        return mask(gradient(records, errors, clip=clip, kernel=self.kernel), self.public)
