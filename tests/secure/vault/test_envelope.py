"""The envelope: what goes in comes out, and nothing else does."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from secure_train.vault import Corrupted, DataKey, WrongKey, open_sealed, seal
from secure_train.vault.envelope import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES

KEY = DataKey(bytes(range(32)))
VECTORS = json.loads((Path(__file__).parent / "vectors" / "envelope-1.json").read_text())
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]


def hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 out of the standard library: shares no code with the package."""
    prk, okm, block = hmac.digest(salt, key, "sha256"), b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        okm += block
    return okm[:length]


def pattern(size: int) -> bytes:
    return hashlib.shake_256(b"plaintext").digest(size)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_is_sealed_opens_to_the_same_bytes(plaintext: bytes, aad: bytes) -> None:
    assert open_sealed(KEY, seal(KEY, plaintext, aad), aad) == plaintext


@pytest.mark.parametrize("size", SIZES)
def test_every_number_of_chunks_round_trips(size: int) -> None:
    sealed = seal(KEY, pattern(size), b"aad")
    assert len(sealed) == HEADER_BYTES + size + TAG_BYTES * max(1, -(-size // CHUNK_BYTES))
    assert open_sealed(KEY, sealed, b"aad") == pattern(size)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_golden_vectors_still_open(vector: dict[str, str]) -> None:
    key = DataKey(bytes.fromhex(vector["key"]))
    plaintext = open_sealed(key, bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["aad"]))
    assert plaintext == bytes.fromhex(vector["plaintext"])


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES + 7])
def test_the_format_is_what_the_document_says(size: int) -> None:
    """Decrypt by hand, following docs/envelope-format.md."""
    sealed = seal(KEY, pattern(size), b"aad")
    assert sealed[:9] == b"STEV\x01" + (65536).to_bytes(4, "big")
    salt, commitment, body = sealed[9:41], sealed[41:73], sealed[73:]
    derived = hkdf(KEY.reveal(), salt, b"secure-train/envelope/1", 64)
    assert derived[32:] == commitment
    chunks = [body[i : i + 65552] for i in range(0, len(body), 65552)]
    plaintext = b"".join(
        AESGCM(derived[:32]).decrypt(
            i.to_bytes(11, "big") + bytes([i == len(chunks) - 1]), chunk, sealed[:73] + b"aad"
        )
        for i, chunk in enumerate(chunks)
    )
    assert plaintext == pattern(size)


@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, b"forty-two bytes of somebody's private data", b""))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((Corrupted, WrongKey)):
        open_sealed(KEY, bytes(sealed), b"")


@given(st.integers(0, 2 * (CHUNK_BYTES + TAG_BYTES) + HEADER_BYTES - 1))
def test_any_truncation_is_noticed(length: int) -> None:
    with pytest.raises(Corrupted):
        open_sealed(KEY, TWO_CHUNKS[:length], b"")


TWO_CHUNKS = seal(KEY, pattern(2 * CHUNK_BYTES), b"")
FIRST = slice(HEADER_BYTES, HEADER_BYTES + CHUNK_BYTES + TAG_BYTES)
SECOND = slice(FIRST.stop, None)


@pytest.mark.parametrize(
    ("body", "chunk"),
    [
        (TWO_CHUNKS[FIRST], 0),
        (TWO_CHUNKS[SECOND], 0),
        (TWO_CHUNKS[SECOND] + TWO_CHUNKS[FIRST], 0),
        (TWO_CHUNKS[FIRST] + TWO_CHUNKS[FIRST], 1),
        (TWO_CHUNKS[FIRST] + TWO_CHUNKS[SECOND] + TWO_CHUNKS[SECOND], 1),
        (TWO_CHUNKS[FIRST] + TWO_CHUNKS[SECOND][:-1], 1),
    ],
    ids=["last dropped", "first dropped", "swapped", "repeated", "appended", "shortened"],
)
def test_chunks_can_not_be_moved_and_the_error_names_the_first_wrong_one(body: bytes, chunk: int) -> None:
    with pytest.raises(Corrupted) as caught:
        open_sealed(KEY, TWO_CHUNKS[:HEADER_BYTES] + body, b"")
    assert caught.value.chunk == chunk


def test_another_key_is_told_apart_from_corruption() -> None:
    with pytest.raises(WrongKey):
        open_sealed(DataKey.generate(), seal(KEY, b"text", b""), b"")


def test_other_associated_data_does_not_open() -> None:
    with pytest.raises(Corrupted):
        open_sealed(KEY, seal(KEY, b"text", b"patients@1"), b"patients@2")


def test_an_envelope_made_for_two_keys_opens_under_the_committed_one_only() -> None:
    """AES-GCM alone would let one ciphertext open under two keys; the commitment is checked first."""
    sealed = seal(KEY, b"text", b"")
    other = DataKey.generate()
    foreign = other.derive(b"secure-train/envelope/1", salt=sealed[9:41], length=64)[32:]
    with pytest.raises(WrongKey):
        open_sealed(KEY, sealed[:41] + foreign + sealed[73:], b"")


def test_sealing_twice_shares_neither_salt_nor_ciphertext() -> None:
    first, second = seal(KEY, b"same", b""), seal(KEY, b"same", b"")
    assert first[9:41] != second[9:41]
    assert first[73:] != second[73:]
