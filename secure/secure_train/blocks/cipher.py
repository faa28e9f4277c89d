"""One block: its keyed name and its encryption.

*Name.* HMAC-SHA256 over type and plaintext, under a key derived from the data key. Equal blocks under one
data key have one name, so that they are stored once; without the key a name says nothing, not even whether a
guessed block is stored.

*Nonce.* Random, not derived from the name. A deterministic nonce would be safe only if equal plaintexts
always became equal ciphertext inputs; but what is encrypted is the *compressed* block, and another release of
zstd may compress the same plaintext differently: two messages under one key and nonce, which breaks AES-GCM.
Random nonces depend on nothing. Each block has its own AES key, HKDF-expanded from the data key by the
block's name, so that two nonces can collide only between two writings of one and the same block, and the 2^32
limit of SP 800-38D holds per block, not per store.

*What still shows.* The number and the compressed size of the blocks, and when each was written: whoever
watches the storage sees how much of a checkpoint changed. Where that matters, storage must be as trusted as
the compute zone.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from secure_train.vault import DataKey

from .codec import Codec, UndecodableBlock, compress, decompress
from .dtypes import itemsize

BLOCK_BYTES: Final = 262_144  # 256 KiB
NONCE_BYTES = 12
TAG_BYTES = 16
_MAGIC = b"STBK\x01"
_HEADER = struct.Struct(">5sBI")
_PURPOSE = b"secure-train/block/1"


class UnreadableBlock(Exception):
    """A stored block does not verify or does not decode; the message says why."""


class BlockCipher:
    """Names, seals and opens the blocks of one data key. Safe to use from several threads."""

    def __init__(self, data_key: DataKey) -> None:
        self._naming = data_key.derive(b"secure-train/block-id/1")
        self._root = data_key.derive(b"secure-train/block-key/1")

    def block_id(self, dtype: str, plain: bytes) -> str:
        """Return the block's name: 64 hexadecimal digits."""
        return hmac.digest(self._naming, dtype.encode() + b"\0" + plain, "sha256").hex()

    def seal(self, block_id: str, dtype: str, plain: bytes) -> bytes:
        """Return the block as it is stored: header (10 bytes), nonce (12), ciphertext, tag (16)."""
        codec, compressed = compress(plain, itemsize(dtype))
        header = _HEADER.pack(_MAGIC, codec, len(plain))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return (
            header + nonce + self._cipher(block_id).encrypt(nonce, compressed, _aad(header, block_id, dtype))
        )

    def open(self, block_id: str, dtype: str, length: int, stored: bytes) -> bytes:
        """Return the block's plaintext of ``length`` bytes; raises UnreadableBlock."""
        if len(stored) < _HEADER.size + NONCE_BYTES + TAG_BYTES:
            raise UnreadableBlock(f"it was truncated to {len(stored)} bytes")
        magic, codec, stored_length = _HEADER.unpack_from(stored)
        if magic != _MAGIC or codec not in list(Codec):
            raise UnreadableBlock("it is not in block format 1: it was altered or written by a newer release")
        header, body = stored[: _HEADER.size], stored[_HEADER.size :]
        try:
            compressed = self._cipher(block_id).decrypt(
                body[:NONCE_BYTES], body[NONCE_BYTES:], _aad(header, block_id, dtype)
            )
        except InvalidTag:
            raise UnreadableBlock("it was altered, truncated, or is another block's") from None
        if stored_length != length:
            raise UnreadableBlock(f"it has {stored_length} bytes where {length} belong")
        try:
            return decompress(Codec(codec), compressed, itemsize(dtype), length)
        except UndecodableBlock as error:
            raise UnreadableBlock(str(error)) from None

    def _cipher(self, block_id: str) -> AESGCM:
        key = HKDFExpand(algorithm=SHA256(), length=32, info=_PURPOSE + bytes.fromhex(block_id))
        return AESGCM(key.derive(self._root))


def _aad(header: bytes, block_id: str, dtype: str) -> bytes:
    return header + bytes.fromhex(block_id) + dtype.encode()
