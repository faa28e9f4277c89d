"""One ring in SEAL: where arrays of residues become SEAL's ciphertexts and polynomials, and back.

Everything here is public arithmetic: it holds no key. Polynomials are encoded as exact integers and
transformed by SEAL's own NTT; the floating-point CKKS encoder, which works in slots, is not needed.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import tenseal.sealapi as seal

from secure_train.ckks.errors import CKKSError, Corrupted
from secure_train.ckks.packing import Integers
from secure_train.ckks.parameters import Parameters
from secure_train.ckks.seal_stream import NESTED_HEADER, VERSION, SealStream, nested_array

_SHAPE = struct.Struct("<32sBQQQdQ")
_PLAIN = struct.Struct("<32sQd")
_MOST_COMPONENTS = 16
SEED_BYTES = 81
"""What SEAL stores of a seeded component: a header (16), the generator's type (1) and its seed (64)."""


class SealRing:
    """A SEAL context for `Parameters`, and conversions. SEAL itself enforces 128-bit security once more."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        settings = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        settings.set_poly_modulus_degree(parameters.ring_degree)
        settings.set_coeff_modulus([seal.Modulus(parameters.modulus)])
        self.context = seal.SEALContext(settings, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise CKKSError(f"SEAL refuses {parameters}: {self.context.parameters_error_message()}")
        self.stream = SealStream()
        self.evaluator = seal.Evaluator(self.context)
        self._parms_id = struct.pack("<4Q", *self.context.first_parms_id())
        self._check_format()

    def ciphertext(self, words: Integers, *, ntt: bool = True) -> Any:
        """Residues (components, N) as a SEAL ciphertext of scale 1; SEAL checks that they are below q."""
        head = _SHAPE.pack(self._parms_id, ntt, words.shape[0], words.shape[1], 1, 1.0, 1)
        body = head + nested_array(np.ascontiguousarray(words, dtype="<i8").tobytes())
        return self.stream.load(seal.Ciphertext(), self.context, body)

    def words(self, ciphertext: Any) -> Integers:
        """The residues of a SEAL ciphertext, (components, N)."""
        body = self.stream.body(ciphertext)
        _, _, components, degree, _, _, _ = _SHAPE.unpack_from(body)
        return _array(body, _SHAPE.size, components * degree).reshape(components, degree)

    def plaintext_words(self, plaintext: Any) -> Integers:
        """The residues of a SEAL plaintext in NTT form, (N,)."""
        return _array(self.stream.body(plaintext), _PLAIN.size, self.parameters.ring_degree)

    def plaintext(self, words: Integers) -> Any:
        """Residues (N,) in NTT form as a SEAL plaintext of scale 1."""
        head = _PLAIN.pack(self._parms_id, words.shape[0], 1.0)
        body = head + nested_array(np.ascontiguousarray(words, dtype="<i8").tobytes())
        return self.stream.load(seal.Plaintext(), self.context, body)

    def split_seeded(self, serializable: Any) -> tuple[Integers, bytes]:
        """A seeded ciphertext as (first component (N,), the seed that the second is drawn from)."""
        body = self.stream.body(serializable)
        start = _SHAPE.size + NESTED_HEADER.size + 8 * self.parameters.ring_degree
        if len(body) != start + SEED_BYTES:
            raise CKKSError("SEAL did not seed this ciphertext; this build of TenSEAL is not supported")
        return _array(body, _SHAPE.size, self.parameters.ring_degree), body[start:]

    def expand_seeded(self, first: Integers, seed: bytes) -> Integers:
        """Undo `split_seeded`: draw the second component; (2, N). Public: needs no key."""
        head = _SHAPE.pack(self._parms_id, True, 2, self.parameters.ring_degree, 1, 1.0, 1)
        array = nested_array(np.ascontiguousarray(first, dtype="<i8").tobytes())
        return self.words(self.stream.load(seal.Ciphertext(), self.context, head + array + seed))

    def to_ntt(self, coefficients: Integers) -> Integers:
        """Signed integers (..., N), |c| < q/2, to residues in NTT form (..., N)."""
        residues = np.mod(coefficients, self.parameters.modulus)
        return self._transformed(residues, self.evaluator.transform_to_ntt_inplace, ntt=False)

    def from_ntt(self, residues: Integers) -> Integers:
        """Residues in NTT form (..., N) to signed integers (..., N) in (-q/2, q/2)."""
        plain = self._transformed(residues, self.evaluator.transform_from_ntt_inplace, ntt=True)
        return np.where(plain > self.parameters.modulus // 2, plain - self.parameters.modulus, plain)

    def _transformed(self, polynomials: Integers, transform: Any, *, ntt: bool) -> Integers:
        """Carry polynomials through SEAL's NTT, up to 15 at a time, as components of a "ciphertext"."""
        flat = polynomials.reshape(-1, self.parameters.ring_degree)
        result = np.empty_like(flat)
        for start in range(0, flat.shape[0], _MOST_COMPONENTS - 1):
            part = flat[start : start + _MOST_COMPONENTS - 1]
            # SEAL refuses results whose components after the first are all zero: the last is never zero.
            carrier = np.concatenate([part, np.ones((1, part.shape[1]), np.int64)])
            ciphertext = self.ciphertext(carrier, ntt=ntt)
            transform(ciphertext)
            result[start : start + part.shape[0]] = self.words(ciphertext)[:-1]
        return result.reshape(polynomials.shape)

    def _check_format(self) -> None:
        zero = seal.Ciphertext(self.context)
        zero.resize(self.context, 2)
        body = self.stream.body(zero)
        nested = NESTED_HEADER.unpack_from(body, _SHAPE.size)
        if body[:32] != self._parms_id or nested[2:4] != VERSION or nested[-1] != body_words(body):
            raise CKKSError("this build of TenSEAL writes another SEAL format; install tenseal 0.3.18")


def body_words(body: bytes) -> int:
    """The number of words behind a ciphertext's fixed fields."""
    return (len(body) - _SHAPE.size - NESTED_HEADER.size) // 8


def _array(body: bytes, offset: int, count: int) -> Integers:
    start = offset + NESTED_HEADER.size
    if len(body) < start + 8 * count:
        raise Corrupted(f"a SEAL object has {len(body)} bytes, needs {start + 8 * count}: it was truncated")
    return np.frombuffer(body, "<i8", count, start).astype(np.int64)


@lru_cache(maxsize=8)
def ring(parameters: Parameters) -> SealRing:
    """The ring of these parameters; one for a process."""
    return SealRing(parameters)
