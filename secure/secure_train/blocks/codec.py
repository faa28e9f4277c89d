"""Compression of one block: bytes grouped by significance, then zstd, or neither where that does not help.

Neighbouring numbers share their exponents, not their low mantissa bits. Writing first all first bytes, then
all second bytes, and so on ("byte shuffle", as in HDF5 and Blosc) puts the compressible ones together.
"""

from __future__ import annotations

import threading
from enum import IntEnum

import numpy as np
import zstandard

LEVEL = 3


class Codec(IntEnum):
    """How a block's bytes became its stored bytes. The numbers are part of the format."""

    RAW = 0
    ZSTD = 1
    SHUFFLED_ZSTD = 2


class UndecodableBlock(Exception):
    """The stored bytes are not the compressed form of a block of this length."""


class _PerThread(threading.local):
    """zstd contexts are costly to make and must not be shared between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _PerThread()


def compress(plain: bytes, itemsize: int) -> tuple[Codec, bytes]:
    """Return the smallest form of the block; ``itemsize`` is how many bytes one of its elements has."""
    shuffled = itemsize > 1
    compressed = _contexts.compressor.compress(_shuffle(plain, itemsize) if shuffled else plain)
    if len(compressed) >= len(plain):
        return Codec.RAW, plain
    return (Codec.SHUFFLED_ZSTD if shuffled else Codec.ZSTD), compressed


def decompress(codec: Codec, stored: bytes, itemsize: int, length: int) -> bytes:
    """Return the block's ``length`` bytes; raises UndecodableBlock rather than yield more or fewer."""
    plain = stored
    if codec is not Codec.RAW:
        try:
            if zstandard.frame_content_size(stored) != length:
                raise UndecodableBlock(f"its compressed form does not announce {length} bytes")
            plain = _contexts.decompressor.decompress(stored, max_output_size=length)
        except zstandard.ZstdError as error:
            raise UndecodableBlock(f"zstd refuses it: {error}") from None
    if len(plain) != length:
        raise UndecodableBlock(f"it has {len(plain)} bytes where {length} belong")
    return _unshuffle(plain, itemsize) if codec is Codec.SHUFFLED_ZSTD else plain


def _shuffle(plain: bytes, itemsize: int) -> bytes:
    return np.frombuffer(plain, np.uint8).reshape(-1, itemsize).T.tobytes()


def _unshuffle(shuffled: bytes, itemsize: int) -> bytes:
    planes = np.frombuffer(shuffled, np.uint8).reshape(itemsize, -1)
    plain = np.empty((planes.shape[1], itemsize), np.uint8)
    # Plane by plane: more than twice as fast as one transposed copy.
    for position, plane in enumerate(planes):
        plain[:, position] = plane
    return plain.tobytes()
