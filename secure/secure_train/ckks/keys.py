"""Key pairs: the secret half sealed by a vault, the public half with a fingerprint that names both."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import rfc8785
import tenseal.sealapi as seal

from secure_train.ckks.errors import Corrupted, WrongKey
from secure_train.ckks.packing import Integers
from secure_train.ckks.parameters import NOISE_BOUND, Parameters
from secure_train.ckks.seal_ring import SealRing, ring
from secure_train.vault import DataKey, KeyContext, WrappedKey, open_sealed
from secure_train.vault import seal as seal_bytes

_FORMAT = "secure-train/ckks-key/1"


class KeyVault(Protocol):
    """What a vault must do here."""

    def new_data_key(self, context: KeyContext) -> tuple[DataKey, WrappedKey]:
        """A fresh data key, and the form of it to store."""

    def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> DataKey:
        """The data key back."""


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """What anybody may have: it encrypts, and its fingerprint names the pair.

    Attributes:
        parameters: the ring.
        words: int64 (2, N), residues in NTT form: an encryption of zero.
    """

    parameters: Parameters
    words: Integers = field(repr=False)

    def __post_init__(self) -> None:
        if self.words.shape != (2, self.parameters.ring_degree):
            raise Corrupted(f"a public key has 2 x {self.parameters.ring_degree} words: it was truncated")
        if self.words.min() < 0 or self.words.max() >= self.parameters.modulus:
            raise Corrupted("a public key's words are not in [0, q): it was altered")

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: SHA-256 over parameters and words."""
        digest = hashlib.sha256(self.parameters.id.encode())
        digest.update(np.ascontiguousarray(self.words, dtype="<i8").tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True, eq=False)
class SealedKey:
    """A key pair as it may be stored anywhere: the secret half is encrypted under a data key of the vault.

    Attributes:
        public: the public half.
        context: what the data key is bound to.
        wrapped: the data key, wrapped by the vault.
        secret: the secret half, sealed; authenticated together with the fingerprint.
    """

    public: PublicKey
    context: KeyContext
    wrapped: WrappedKey = field(repr=False)
    secret: bytes = field(repr=False)

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        words = np.ascontiguousarray(self.public.words, dtype="<i8").tobytes()
        return rfc8785.dumps(
            {
                "format": _FORMAT,
                "ring_degree": self.public.parameters.ring_degree,
                "modulus": str(self.public.parameters.modulus),
                "public": base64.b64encode(words).decode(),
                "context": [self.context.tenant, self.context.artifact, self.context.type],
                "wrapped": base64.b64encode(self.wrapped.to_bytes()).decode(),
                "secret": base64.b64encode(self.secret).decode(),
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> SealedKey:
        """Read what `to_json` wrote.

        Raises:
            Corrupted: it is no such key.
            VaultError: its wrapped data key is malformed.
        """
        try:
            found = json.loads(text)
            if found["format"] != _FORMAT:
                raise Corrupted(
                    f"format {found['format']!r} is not {_FORMAT!r}: it was written by another release"
                )
            parameters = Parameters(int(found["ring_degree"]), int(found["modulus"]))
            words = np.frombuffer(base64.b64decode(found["public"], validate=True), "<i8").astype(np.int64)
            return cls(
                PublicKey(parameters, words.reshape(2, -1)),
                KeyContext(*found["context"]),
                WrappedKey.from_bytes(base64.b64decode(found["wrapped"], validate=True)),
                base64.b64decode(found["secret"], validate=True),
            )
        except (KeyError, TypeError, ValueError) as error:
            # Not quoted: the message could hold part of the file.
            raise Corrupted(f"this is not a sealed CKKS key ({type(error).__name__})") from None


def new_key(vault: KeyVault, context: KeyContext, parameters: Parameters) -> SealedKey:
    """Generate a key pair and seal it; the secret half exists in the clear only while this runs."""
    here = ring(parameters)
    generator = seal.KeyGenerator(here.context)
    public = seal.PublicKey()
    generator.create_public_key(public)
    half = PublicKey(parameters, here.words(public))
    data_key, wrapped = vault.new_data_key(context)
    body = here.stream.body(generator.secret_key())
    return SealedKey(half, context, wrapped, seal_bytes(data_key, body, _aad(half)))


def open_key(vault: KeyVault, key: SealedKey) -> Any:
    """The secret half as SEAL's object, for the encryptor alone.

    Raises:
        WrongKey: it is not the secret half of the public one.
        VaultError: another vault's, another context's, or altered.
    """
    data_key = vault.unwrap(key.wrapped, key.context)
    body = open_sealed(data_key, key.secret, _aad(key.public))
    here = ring(key.public.parameters)
    secret = here.stream.load(seal.SecretKey(), here.context, body)
    _require_pair(here, secret, key.public)
    return secret


def _require_pair(here: SealRing, secret: Any, public: PublicKey) -> None:
    """A public key is an encryption of zero: under its own secret key nothing but the error is left."""
    plain = seal.Plaintext()
    seal.Decryptor(here.context, secret).decrypt(here.ciphertext(public.words), plain)
    if np.abs(here.from_ntt(here.plaintext_words(plain))).max() > NOISE_BOUND:
        raise WrongKey(
            f"the secret key is not that of {public.fingerprint}: restore the pair from its backup"
        )


def _aad(public: PublicKey) -> bytes:
    return f"{_FORMAT} {public.parameters.id} {public.fingerprint}".encode()
