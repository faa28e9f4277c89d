"""Everything that can go wrong with encrypted linear algebra."""

from __future__ import annotations


class CKKSError(Exception):
    """Root of this package's errors."""


class InvalidInput(CKKSError):
    """An argument or an array that cannot be worked with: NaN, wrong shape, beyond its declared bound."""


class InsecureParameters(CKKSError):
    """Parameters below 128 bits of security."""


class ScaleOverflow(CKKSError):
    """In the worst case a value would exceed half the modulus and wrap around: refused before it can."""


class Mismatch(CKKSError):
    """Two ciphertexts, or a ciphertext and a key, that do not belong together; names every difference."""


class WrongKey(CKKSError):
    """A secret key that is not the one its public part belongs to."""


class Corrupted(CKKSError):
    """Bytes or residues that no encryption of ours can have produced: altered, truncated or foreign."""


class KernelUnavailable(CKKSError):
    """A compute kernel that cannot run here, or not with these parameters."""
