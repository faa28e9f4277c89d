"""One version of the key-encryption key, in software.

A hardware module replaces this class: wrapping and unwrapping are the only operations, and the key itself
cannot be asked for.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import WrongKey
from .keys import DataKey

_NONCE_BYTES = 12


class KeyEncryptionKey:
    """Wraps data keys with AES-256-GCM under random 96-bit nonces.

    NIST SP 800-38D section 8.3 allows 2^32 wraps per key under random nonces; rotate the key before that.
    """

    def __init__(self, version: int, secret: bytes) -> None:
        self.version = version
        self._cipher = AESGCM(secret)

    def wrap(self, data_key: DataKey, aad: bytes) -> bytes:
        """Return nonce (12 bytes), encrypted key (32) and tag (16)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data_key.reveal(), aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> DataKey:
        """Return the data key; raises WrongKey where bytes, context and key do not fit together."""
        try:
            return DataKey(self._cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], aad))
        except InvalidTag:
            raise WrongKey(
                "the wrapped key does not open: it was altered, or is for another context or vault"
            ) from None

    def __repr__(self) -> str:
        return f"KeyEncryptionKey(version={self.version})"
