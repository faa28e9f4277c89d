"""Sealing of whole byte strings: HKDF, key commitment, AES-256-GCM in 64 KiB chunks.

The chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): the nonce holds the chunk's
number and whether it is the last, so that no chunk can be dropped, repeated, swapped or appended. AES-GCM
alone does not commit to its key (one ciphertext can open under two); the 32 bytes of commitment in the header
do (Albertini et al., USENIX Security 2022). Byte by byte: ``docs/envelope-format.md``.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq

from .errors import Corrupted, WrongKey
from .keys import DataKey

CHUNK_BYTES = 64 * 1024
SALT_BYTES = 32
COMMITMENT_BYTES = 32
TAG_BYTES = 16
_MAGIC = b"STEV\x01"
_PREFIX = struct.Struct(">5sI")
HEADER_BYTES = _PREFIX.size + SALT_BYTES + COMMITMENT_BYTES
_PURPOSE = b"secure-train/envelope/1"


def seal(data_key: DataKey, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt and authenticate ``plaintext``, and authenticate ``aad`` with it.

    Every call draws a fresh 256-bit salt and thereby a fresh AES key: one data key may seal any number of
    times.
    """
    return _seal_with_salt(data_key, plaintext, aad, secrets.token_bytes(SALT_BYTES))


def open_sealed(data_key: DataKey, blob: bytes, aad: bytes) -> bytes:
    """Return the plaintext, once every byte of it is verified.

    Raises WrongKey if the commitment in the header is not this key's, Corrupted (naming the chunk) otherwise.
    """
    if len(blob) < HEADER_BYTES + TAG_BYTES:
        raise Corrupted(f"the envelope ends after {len(blob)} bytes: it was truncated")
    magic, chunk_bytes = _PREFIX.unpack_from(blob)
    if magic != _MAGIC or chunk_bytes != CHUNK_BYTES:
        raise Corrupted("this is not an envelope of format 1: it was altered or written by a newer release")
    header, body = blob[:HEADER_BYTES], memoryview(blob)[HEADER_BYTES:]
    salt, commitment = header[_PREFIX.size : -COMMITMENT_BYTES], header[-COMMITMENT_BYTES:]
    cipher, expected = _keys(data_key, salt)
    if not bytes_eq(commitment, expected):
        raise WrongKey("the envelope was sealed with another key (or its header was altered)")
    plaintext = []
    for index, chunk, last in _split(body, CHUNK_BYTES + TAG_BYTES):
        try:
            plaintext.append(cipher.decrypt(_nonce(index, last), chunk, header + aad))
        except InvalidTag:
            raise Corrupted(
                f"chunk {index} of the envelope does not verify: it was altered, truncated, or moved here",
                chunk=index,
            ) from None
    return b"".join(plaintext)


def _seal_with_salt(data_key: DataKey, plaintext: bytes, aad: bytes, salt: bytes) -> bytes:
    cipher, commitment = _keys(data_key, salt)
    header = _PREFIX.pack(_MAGIC, CHUNK_BYTES) + salt + commitment
    chunks = (
        cipher.encrypt(_nonce(index, last), chunk, header + aad)
        for index, chunk, last in _split(memoryview(plaintext), CHUNK_BYTES)
    )
    return header + b"".join(chunks)


def _keys(data_key: DataKey, salt: bytes) -> tuple[AESGCM, bytes]:
    derived = data_key.derive(_PURPOSE, salt=salt, length=32 + COMMITMENT_BYTES)
    return AESGCM(derived[:32]), derived[32:]


def _nonce(index: int, last: bool) -> bytes:
    return index.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _split(data: memoryview, size: int) -> Iterator[tuple[int, memoryview, bool]]:
    """Cut into pieces of ``size`` bytes, the last one shorter or full; no bytes are one empty piece."""
    count = max(1, -(-len(data) // size))
    for index in range(count):
        yield index, data[index * size : (index + 1) * size], index == count - 1
