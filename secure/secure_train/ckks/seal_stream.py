"""SEAL objects as bytes: the format of SEAL 4's `save` and `load`, through a file that exists in memory only.

TenSEAL's binding saves and loads by path and has no buffer interface. A stream is a 16-byte header (magic
0xA15E, header size, version, compression, reserved, total size) and a body, compressed by zstd when SEAL
writes it. SEAL loads uncompressed bodies as well. A ciphertext's body is

    parms_id (32) · NTT form (1) · components, N, primes (3 × 8) · scale (8) · correction factor (8) · array

and the array, uncompressed, a header of its own, the number of words (8) and the words, little endian.
"""

from __future__ import annotations

import os
import struct
import threading
from typing import Any

import zstandard

from secure_train.ckks.errors import CKKSError, Corrupted

_HEADER = struct.Struct("<HBBBBHQ")
_MAGIC = 0xA15E
_LARGEST = 1 << 30


class SealStream:
    """One anonymous in-memory file (memfd) for SEAL to write to and read from. Linux only.

    Nothing reaches a disk: keys and plaintexts pass through here. Safe for threads.
    """

    def __init__(self) -> None:
        if not hasattr(os, "memfd_create"):
            raise CKKSError("CKKS keys and encryption need Linux: SEAL objects are passed through a memfd")
        self._file = os.memfd_create("seal", os.MFD_CLOEXEC)
        self._path = f"/proc/self/fd/{self._file}"
        self._lock = threading.Lock()

    def body(self, thing: Any) -> bytes:
        """The uncompressed body of whatever SEAL can save."""
        with self._lock:
            os.ftruncate(self._file, 0)
            thing.save(self._path)
            stream = os.pread(self._file, os.fstat(self._file).st_size, 0)
            os.ftruncate(self._file, 0)
        compression = _HEADER.unpack_from(stream)[4]
        if compression == 0:
            return stream[_HEADER.size :]
        if compression != 2:
            raise CKKSError(f"SEAL wrote compression {compression}; this build of TenSEAL is not supported")
        return zstandard.ZstdDecompressor().decompressobj().decompress(stream[_HEADER.size :])

    def load(self, thing: Any, context: Any, body: bytes) -> Any:
        """Fill a SEAL object from an uncompressed body and return it; SEAL checks it against the context.

        Raises:
            Corrupted: SEAL refuses it.
        """
        if len(body) > _LARGEST:
            raise Corrupted(f"a SEAL object of {len(body)} bytes is larger than any of ours")
        header = _HEADER.pack(_MAGIC, _HEADER.size, *VERSION, 0, 0, _HEADER.size + len(body))
        with self._lock:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, header + body, 0)
            try:
                thing.load(context, self._path)
            except (RuntimeError, ValueError, IndexError) as error:
                raise Corrupted(f"SEAL refuses these bytes: {error}") from None
            finally:
                os.ftruncate(self._file, 0)
        return thing

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


VERSION = (4, 3)
"""The format version in every header; `SealRing` compares it with what the installed SEAL writes."""

NESTED_HEADER = struct.Struct("<HBBBBHQQ")


def nested_array(words: bytes) -> bytes:
    """An array of 64-bit words as it stands inside a body."""
    size = NESTED_HEADER.size + len(words)
    return NESTED_HEADER.pack(_MAGIC, _HEADER.size, *VERSION, 0, 0, size, len(words) // 8) + words
