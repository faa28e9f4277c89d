"""Encryption and decryption: who holds the secret key, and who holds the public one.

Every random number, error and key product is SEAL's. What is added here to SEAL's encryption of zero is the
message in NTT form, which is how SEAL's own `encrypt` works (SEAL 4, encryptor.cpp, encrypt_internal).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal
import torch

from secure_train.ckks.encoding import (
    Reals,
    require_rows_within,
    require_values_within,
    rounding_error,
    to_integers,
    to_reals,
)
from secure_train.ckks.errors import InvalidInput, Mismatch
from secure_train.ckks.header import Content, Header
from secure_train.ckks.keys import KeyVault, PublicKey, SealedKey, open_key
from secure_train.ckks.packing import Integers, Packing
from secure_train.ckks.parameters import EncryptedBy, Parameters
from secure_train.ckks.seal_ring import SEED_BYTES, ring
from secure_train.ckks.tensor import CipherTensor, SeededCipherTensor

SCALE_BITS = 18
_ARRAY_BOUND = 1024.0


class _Encrypts(ABC):
    """What both kinds of encryptors do with numbers; `_zeros` is how they differ."""

    by: EncryptedBy

    def __init__(self, public: PublicKey) -> None:
        self.public = public
        self._ring = ring(public.parameters)

    @property
    def parameters(self) -> Parameters:
        """The ring."""
        return self.public.parameters

    def encrypt(
        self, array: npt.ArrayLike, *, bound: float = _ARRAY_BOUND, scale_bits: int = SCALE_BITS
    ) -> CipherTensor:
        """Encrypt numbers of any shape, N to a ciphertext. They may be added, and decrypted.

        Args:
            array: numbers of magnitude at most `bound`.
            bound: public.
            scale_bits: precision; the error is at most (21.5 or so)·2^-scale_bits with the secret key.

        Raises:
            InvalidInput: a number is not finite or beyond the bound.
            ScaleOverflow: the scale leaves no room for the bound.
        """
        values = np.asarray(array, np.float64)
        header = self._header(Content.ARRAY, values.shape, self.parameters.ring_degree, bound, scale_bits)
        require_values_within("array", values, bound)
        packed = np.zeros((header.grid[0] * self.parameters.ring_degree,), np.int64)
        packed[: values.size] = to_integers(values.reshape(-1), scale_bits)
        return self._encrypted(header, packed)

    def encrypt_records(
        self, records: npt.ArrayLike, *, bound: float, samples_per_block: int, scale_bits: int = SCALE_BITS
    ) -> CipherTensor:
        """Encrypt records (B, d), each of L2 norm at most `bound` (public), for linear layers.

        Raises:
            InvalidInput: a record is not finite or too long.
            ScaleOverflow: the scale leaves no room for the bound.
        """
        return self._encrypted(*self._records(records, bound, samples_per_block, scale_bits))

    def encrypt_errors(
        self, errors: npt.ArrayLike, *, bound: float, samples_per_block: int, scale_bits: int = SCALE_BITS
    ) -> CipherTensor:
        """Encrypt error signals (B, k), each row of L2 norm at most `bound` (public).

        Raises:
            InvalidInput: a row is not finite or too long.
            ScaleOverflow: the scale leaves no room for the bound.
        """
        return self._encrypted(*self._errors(errors, bound, samples_per_block, scale_bits))

    def _records(
        self, records: npt.ArrayLike, bound: float, samples: int, scale_bits: int
    ) -> tuple[Header, Integers]:
        values = np.asarray(records, np.float64)
        require_rows_within("records", values, bound)
        header = self._header(Content.RECORDS, values.shape, samples, bound, scale_bits)
        return header, header.packing.pack_records(to_integers(values, scale_bits))

    def _errors(
        self, errors: npt.ArrayLike, bound: float, samples: int, scale_bits: int
    ) -> tuple[Header, Integers]:
        values = np.asarray(errors, np.float64)
        require_rows_within("errors", values, bound)
        header = self._header(Content.ERRORS, values.shape, samples, bound, scale_bits)
        return header, header.packing.pack_errors(to_integers(values, scale_bits))

    def _header(
        self, content: Content, shape: tuple[int, ...], samples: int, bound: float, scale_bits: int
    ) -> Header:
        noise = math.ldexp(self.by.noise_bound(self.parameters.ring_degree), -scale_bits)
        return Header(
            key=self.public.fingerprint,
            parameters=self.parameters,
            content=content,
            shape=shape,
            samples_per_block=Packing(self.parameters.ring_degree, samples).samples,
            scale_bits=scale_bits,
            bound=float(bound),
            error=noise + rounding_error(scale_bits),
        )

    def _encrypted(self, header: Header, coefficients: Integers) -> CipherTensor:
        degree = self.parameters.ring_degree
        words = self._words(coefficients.reshape(-1, degree))
        return CipherTensor(header, torch.from_numpy(words.reshape(header.residues_shape)))

    def _words(self, coefficients: Integers) -> Integers:
        """Encrypt integer polynomials (count, N): residues (count, 2, N)."""
        messages = self._ring.to_ntt(coefficients)
        words = (
            np.stack([self._zero() for _ in messages])
            if len(messages)
            else np.empty((0, 2, messages.shape[1]), np.int64)
        )
        words[:, 0] = (words[:, 0] + messages) % self.parameters.modulus
        return words

    @abstractmethod
    def _zero(self) -> Integers:
        """A fresh encryption of zero by SEAL, (2, N)."""


class PublicEncryptor(_Encrypts):
    """Encrypts under a public key: for owners who pool their records under one custodian's key."""

    by = EncryptedBy.PUBLIC_KEY

    def encrypt_polynomials(self, coefficients: Integers) -> Integers:
        """Encrypt integers (count, N) as they are, as coefficients modulo q: residues (count, 2, N)."""
        return self._words(coefficients)

    def __init__(self, public: PublicKey) -> None:
        super().__init__(public)
        key = self._ring.stream.load(
            seal.PublicKey(), self._ring.context, self._ring.stream.body(self._ring.ciphertext(public.words))
        )
        self._encryptor = seal.Encryptor(self._ring.context, key)

    def _zero(self) -> Integers:
        encrypted = seal.Ciphertext()
        self._encryptor.encrypt_zero(encrypted)
        return self._ring.words(encrypted)


class HomoEncryptor(_Encrypts):
    """Encrypts and decrypts with the secret key, which stays inside this object.

    >>> encryptor = HomoEncryptor(vault, key)  # doctest: +SKIP
    >>> secret = encryptor.encrypt([1.5, 2.5]) + encryptor.encrypt([1.0, 1.0])  # doctest: +SKIP
    >>> encryptor.decrypt(secret)  # doctest: +SKIP
    array([2.49999, 3.50001])

    Args:
        vault: where the key was sealed.
        key: from `new_key`.

    Raises:
        VaultError: another vault's key, or an altered one.
        WrongKey: the two halves are not a pair.
    """

    by = EncryptedBy.SECRET_KEY

    def __init__(self, vault: KeyVault, key: SealedKey) -> None:
        super().__init__(key.public)
        secret = open_key(vault, key)
        self._encryptor = seal.Encryptor(self._ring.context, secret)
        self._decryptor = seal.Decryptor(self._ring.context, secret)

    def seeded_records(
        self, records: npt.ArrayLike, *, bound: float, samples_per_block: int, scale_bits: int = SCALE_BITS
    ) -> SeededCipherTensor:
        """As `encrypt_records`, at half the bytes."""
        return self._seeded(*self._records(records, bound, samples_per_block, scale_bits))

    def seeded_errors(
        self, errors: npt.ArrayLike, *, bound: float, samples_per_block: int, scale_bits: int = SCALE_BITS
    ) -> SeededCipherTensor:
        """As `encrypt_errors`, at half the bytes."""
        return self._seeded(*self._errors(errors, bound, samples_per_block, scale_bits))

    def decrypt(self, tensor: CipherTensor) -> Reals:
        """Decrypt to the header's shape. The error is at most `tensor.header.error`.

        A decryption is for the custodian's eyes only: its error says a little about the secret key
        (IND-CPA-D; Li and Micciancio, EUROCRYPT 2021). Release only through `release`.

        Raises:
            Mismatch: it was encrypted under another key or other parameters.
        """
        return to_reals(self.decrypt_integers(tensor), tensor.header.scale_bits)

    def decrypt_integers(self, tensor: CipherTensor) -> Integers:
        """As `decrypt`, but the exact integers in units of 2^-scale_bits.

        Raises:
            Mismatch: see `decrypt`.
        """
        header = tensor.header
        mine = {"key": self.public.fingerprint, "parameters": self.parameters}
        wrong = [name for name, value in mine.items() if getattr(header, name) != value]
        if wrong:
            raise Mismatch(
                f"{header.content} of key {header.key} cannot be decrypted with {self.public.fingerprint}: "
                f"{' and '.join(wrong)} differ"
            )
        words = tensor.residues.cpu().numpy().reshape(-1, header.components, self.parameters.ring_degree)
        plain = np.empty((words.shape[0], self.parameters.ring_degree), np.int64)
        for index in range(words.shape[0]):
            plain[index] = self._decrypted(words[index])
        return _unpacked(
            header, self._ring.from_ntt(plain).reshape(*header.grid, self.parameters.ring_degree)
        )

    def _decrypted(self, words: Integers) -> Integers:
        plaintext = seal.Plaintext()
        self._decryptor.decrypt(self._ring.ciphertext(words), plaintext)
        return self._ring.plaintext_words(plaintext)

    def _zero(self) -> Integers:
        encrypted = seal.Ciphertext()
        self._encryptor.encrypt_zero_symmetric(encrypted)
        return self._ring.words(encrypted)

    def _seeded(self, header: Header, coefficients: Integers) -> SeededCipherTensor:
        degree = self.parameters.ring_degree
        first = self._ring.to_ntt(coefficients.reshape(-1, degree))
        seeds = np.empty((first.shape[0], SEED_BYTES), np.uint8)
        for index in range(first.shape[0]):
            zero, seed = self._ring.split_seeded(self._encryptor.encrypt_zero_symmetric())
            first[index] = (first[index] + zero) % self.parameters.modulus
            seeds[index] = np.frombuffer(seed, np.uint8)
        return SeededCipherTensor(
            header,
            torch.from_numpy(first.reshape(*header.grid, degree)),
            torch.from_numpy(seeds.reshape(*header.grid, SEED_BYTES)),
        )

    def __repr__(self) -> str:
        return f"HomoEncryptor({self.public.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an encryptor holds a secret key and is not pickled: open the sealed key where it is needed"
        )


def _unpacked(header: Header, packed: Any) -> Integers:
    packing, content = header.packing, header.content
    if content is Content.ARRAY:
        return np.asarray(packed.reshape(-1)[: math.prod(header.shape)].reshape(header.shape))
    rows, columns = header.shape
    if content is Content.RECORDS:
        return packing.unpack_records(packed, rows, columns)
    if content is Content.ERRORS:
        return packing.unpack_errors(packed, rows)
    if content is Content.OUTPUTS:
        return packing.unpack_outputs(packed, rows)
    if content is Content.GRADIENT:
        return packing.unpack_gradient(packed, rows)
    raise InvalidInput(f"content: {content} cannot be unpacked")
