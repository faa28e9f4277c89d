"""Data keys, what they are bound to, and the form in which they may be stored."""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import NoReturn

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import Corrupted

KEY_BYTES = 32
_WRAPPED_FORMAT = b"STWK\x01"
_WRAPPED_HEADER = struct.Struct(">5sI")
WRAPPED_SECRET_BYTES = 12 + KEY_BYTES + 16


class DataKey:
    """32 secret bytes that encrypt one artifact (or one family of artifacts that share blocks).

    It shows nothing of itself in ``repr`` and refuses to be pickled or copied, so that it reaches no log,
    no exception report and no object store by accident. Python cannot erase it from memory.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> DataKey:
        """Return a new key from the operating system's random generator."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def derive(self, purpose: bytes, *, salt: bytes | None = None, length: int = KEY_BYTES) -> bytes:
        """Return ``length`` bytes for one purpose: HKDF-SHA256 (RFC 5869), info = ``purpose``."""
        return HKDF(algorithm=SHA256(), length=length, salt=salt, info=purpose).derive(self._secret)

    def reveal(self) -> bytes:
        """Return the raw key, to hand it over a protected channel. Never log it, never store it unwrapped."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataKey) and bytes_eq(self._secret, other._secret)

    def __repr__(self) -> str:
        return "DataKey(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a DataKey is not pickled or copied: wrap it, or hand reveal() over a protected channel"
        )


@dataclass(frozen=True, slots=True)
class KeyContext:
    """What a data key belongs to. It is authenticated with the wrapped key and must be known to unwrap it."""

    tenant: str
    artifact: str
    type: str

    def __post_init__(self) -> None:
        for field in ("tenant", "artifact", "type"):
            if not getattr(self, field):
                raise ValueError(
                    f"KeyContext.{field} is empty: a data key is always bound to all three fields"
                )

    def to_bytes(self) -> bytes:
        """Encode unambiguously: each field as UTF-8, preceded by its length (4 bytes, big endian)."""
        encoded = (field.encode() for field in (self.tenant, self.artifact, self.type))
        return b"".join(struct.pack(">I", len(field)) + field for field in encoded)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it may be stored: encrypted by version ``kek_version`` of the key-encryption key.

    Format 1, 69 bytes: ``STWK`` 0x01, KEK version (4 bytes, big endian), nonce (12), encrypted key and tag
    (48).
    """

    kek_version: int
    secret: bytes

    def to_bytes(self) -> bytes:
        """Encode in format 1."""
        return wrapped_key_header(self.kek_version) + self.secret

    @classmethod
    def from_bytes(cls, data: bytes) -> WrappedKey:
        """Decode format 1; raises Corrupted for anything else."""
        expected = _WRAPPED_HEADER.size + WRAPPED_SECRET_BYTES
        if len(data) != expected:
            raise Corrupted(
                f"a wrapped key has {expected} bytes, this has {len(data)}: restore it from a backup"
            )
        magic, kek_version = _WRAPPED_HEADER.unpack_from(data)
        if magic != _WRAPPED_FORMAT:
            raise Corrupted(
                "this is not a wrapped key of format 1: it was altered or written by a newer release"
            )
        return cls(kek_version, data[_WRAPPED_HEADER.size :])


def wrapped_key_header(kek_version: int) -> bytes:
    """Return what stands before the encrypted key, and is authenticated with it."""
    return _WRAPPED_HEADER.pack(_WRAPPED_FORMAT, kek_version)
