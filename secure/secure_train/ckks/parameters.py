"""The ring that ciphertexts live in, and the table that says which rings are secure.

R_q = Z_q[X]/(X^N + 1) with N a power of two and one prime q = 1 mod 2N. The multiplicative depth here is one
and nothing is ever rescaled or key-switched, so one prime is enough.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from secure_train.ckks.errors import InsecureParameters, InvalidInput

SECURITY_BITS = 128
MOST_MODULUS_BITS = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""Bits of q at 128-bit classical security by N, for ternary secrets: HomomorphicEncryption.org, "Homomorphic
Encryption Security Standard" (2018), table 1."""

KERNEL_MODULUS_BITS = 54
"""The widest prime that the compute kernels take: three limbs of 18 bits."""

NOISE_BOUND = 21
"""SEAL 4 draws errors from a centred binomial distribution over 2·21 bits: each |e| <= 21, always."""
NOISE_VARIANCE = 10.5

_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


class EncryptedBy(StrEnum):
    """Who encrypts, which decides how large the error in a fresh ciphertext is."""

    SECRET_KEY = "secret-key"  # noqa: S105
    """The custodian itself. Error e: at most 21 in every coefficient."""
    PUBLIC_KEY = "public-key"
    """Owners who pool their records. Error u·e + e' + e''·s with ternary u, s."""

    def noise_bound(self, ring_degree: int) -> int:
        """The most that any coefficient of a fresh ciphertext's error can be, in units of 1/scale."""
        return NOISE_BOUND * (1 if self is EncryptedBy.SECRET_KEY else 2 * ring_degree + 1)

    def noise_variance(self, ring_degree: int) -> float:
        """The variance of a coefficient of a fresh ciphertext's error, in units of 1/scale²."""
        terms = 1.0 if self is EncryptedBy.SECRET_KEY else 4 * ring_degree / 3 + 1
        return NOISE_VARIANCE * terms


@dataclass(frozen=True, slots=True)
class Parameters:
    """A ring of at least 128-bit security.

    Attributes:
        ring_degree: N.
        modulus: q, a prime = 1 mod 2N.

    Raises:
        InsecureParameters: q is too wide for N.
        InvalidInput: no such ring, or the kernels cannot compute in it.
    """

    ring_degree: int
    modulus: int

    def __post_init__(self) -> None:
        allowed = _allowed_bits(self.ring_degree)
        if self.modulus.bit_length() > allowed:
            raise InsecureParameters(
                f"N = {self.ring_degree} with a modulus of {self.modulus.bit_length()} bits is below "
                f"{SECURITY_BITS}-bit security: use at most {allowed} bits, or a larger N"
            )
        if self.modulus.bit_length() > KERNEL_MODULUS_BITS:
            raise InvalidInput(
                f"modulus: has {self.modulus.bit_length()} bits, the kernels compute with at most "
                f"{KERNEL_MODULUS_BITS}"
            )
        if self.modulus % (2 * self.ring_degree) != 1 or not is_prime(self.modulus):
            raise InvalidInput(f"modulus: {self.modulus} is not a prime = 1 mod {2 * self.ring_degree}")

    @classmethod
    def of_bits(cls, ring_degree: int, modulus_bits: int) -> Parameters:
        """The ring with the largest suitable prime of that many bits.

        Raises:
            InsecureParameters: N and the number of bits are below 128-bit security.
            InvalidInput: there is no such prime.
        """
        allowed = _allowed_bits(ring_degree)
        if modulus_bits > allowed:
            raise InsecureParameters(
                f"N = {ring_degree} with a modulus of {modulus_bits} bits is below {SECURITY_BITS}-bit "
                f"security: use at most {allowed} bits, or a larger N"
            )
        step = 2 * ring_degree
        candidate = ((1 << modulus_bits) - 1) // step * step + 1
        while candidate.bit_length() > modulus_bits:
            candidate -= step
        while candidate.bit_length() == modulus_bits:
            if is_prime(candidate):
                return cls(ring_degree, candidate)
            candidate -= step
        raise InvalidInput(f"modulus_bits: there is no prime = 1 mod {step} of {modulus_bits} bits")

    @property
    def modulus_bits(self) -> int:
        """The number of bits of q."""
        return self.modulus.bit_length()

    @property
    def id(self) -> str:
        """A name for exactly this ring: 32 hexadecimal digits."""
        text = f"secure-train/ckks/1 N={self.ring_degree} q={self.modulus}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _allowed_bits(ring_degree: int) -> int:
    allowed = MOST_MODULUS_BITS.get(ring_degree)
    if allowed is None:
        raise InvalidInput(f"ring_degree: {ring_degree} is not one of {sorted(MOST_MODULUS_BITS)}")
    return allowed


def is_prime(number: int) -> bool:
    """Whether a number below 2^64 is prime: Miller-Rabin with the witnesses that decide it up to there."""
    if number < 2 or number.bit_length() > 64:
        return False
    for prime in _WITNESSES:
        if number % prime == 0:
            return number == prime
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for witness in _WITNESSES:
        power = pow(witness, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
