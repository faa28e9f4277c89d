"""Counter-mode randomness: uniform 64-bit words as a pure function of a secret key and a public position.

Each position gets its own AES-256 key by HKDF-SHA256 (RFC 5869) whose `info` spells out purpose and position,
and the words are that key's AES-CTR keystream (NIST SP 800-38A §6.5). Equal positions give equal words on any
machine; different positions give computationally independent ones. That is what makes a step re-run after a
crash release the value that it released before, instead of a second one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secure_train.dp.errors import InvalidParameterError

KEY_BYTES = 32
_DOMAIN = "secure-train/dp/v1"


def require_key(key: bytes) -> None:
    """Refuse anything but 32 bytes.

    Raises:
        InvalidParameterError: the key has another type or length. Its value is never part of the message.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise InvalidParameterError(
            f"key: must be {KEY_BYTES} bytes drawn from a cryptographic source, e.g. secrets.token_bytes(32)"
        )


def require_position(**position: int) -> None:
    """Refuse coordinates (rank, epoch, step, …) that are not integers of at least 0.

    Raises:
        InvalidParameterError: names the coordinate.
    """
    for name, value in position.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidParameterError(f"{name}: must be an integer of at least 0, got {value!r}")


def derive(key: bytes, purpose: str, **position: int | float) -> bytes:
    """A 32-byte key for one purpose at one position. Floats enter exactly (hexadecimal form)."""
    fields = [
        f"{name}={value.hex() if isinstance(value, float) else value}" for name, value in position.items()
    ]
    info = "|".join([_DOMAIN, purpose, *fields]).encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


class Words:
    """A stream of uniform 64-bit words from one derived key. Never share the key with another stream."""

    def __init__(self, derived_key: bytes) -> None:
        # A zero counter block is sound because every derived key encrypts exactly one stream.
        self._cipher = Cipher(algorithms.AES256(derived_key), modes.CTR(bytes(16))).encryptor()

    def take(self, count: int) -> npt.NDArray[np.uint64]:
        """The next `count` words, shape (count,)."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8").astype(np.uint64, copy=False)
