"""Compression of single blocks: lossless, bounded, and worth its time on numbers."""

from __future__ import annotations

import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from secure_train.blocks.cipher import BlockCipher, UnreadableBlock
from secure_train.blocks.codec import Codec, UndecodableBlock, compress, decompress
from secure_train.vault import DataKey


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 200), st.data())
def test_compression_is_lossless(itemsize: int, elements: int, data: st.DataObject) -> None:
    size = itemsize * elements
    plain = data.draw(
        st.binary(min_size=size, max_size=size)
        | st.binary(min_size=1, max_size=1).map(lambda byte: byte * size)
    )
    codec, stored = compress(plain, itemsize)
    assert decompress(codec, stored, itemsize, size) == plain
    assert len(stored) <= size


def test_incompressible_bytes_are_stored_as_they_are() -> None:
    plain = torch.randint(0, 256, (4096,), dtype=torch.uint8).numpy().tobytes()
    assert compress(plain, 1) == (Codec.RAW, plain)


def test_the_byte_shuffle_makes_weights_smaller() -> None:
    weights = torch.randn(65_536).numpy().tobytes()
    codec, shuffled = compress(weights, 4)
    assert codec is Codec.SHUFFLED_ZSTD
    assert len(shuffled) < len(compress(weights, 1)[1])


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"not zstd",
        zstandard.ZstdCompressor().compress(bytes(10)),
        zstandard.ZstdCompressor().compress(bytes(2**30)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(16)),
        zstandard.ZstdCompressor().compress(bytes(16))[:-3],
    ],
    ids=["nothing", "noise", "too short", "a bomb", "length hidden", "truncated"],
)
def test_what_does_not_decode_to_the_expected_length_is_refused(stored: bytes) -> None:
    with pytest.raises(UndecodableBlock):
        decompress(Codec.ZSTD, stored, 1, 16)


def test_a_block_verifies_only_with_its_own_id_type_and_length() -> None:
    cipher, plain = BlockCipher(DataKey(bytes(32))), bytes(range(64))
    block_id = cipher.block_id("U8", plain)
    sealed = cipher.seal(block_id, "U8", plain)
    assert cipher.open(block_id, "U8", 64, sealed) == plain
    for wrong in ((cipher.block_id("U8", b"other"), "U8", 64), (block_id, "I8", 64), (block_id, "U8", 63)):
        with pytest.raises(UnreadableBlock):
            cipher.open(*wrong, sealed)


def test_sealing_a_block_twice_never_repeats_a_nonce() -> None:
    cipher = BlockCipher(DataKey(bytes(32)))
    block_id = cipher.block_id("U8", b"same")
    nonces = {cipher.seal(block_id, "U8", b"same")[10:22] for _ in range(100)}
    assert len(nonces) == 100
