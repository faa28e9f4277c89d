"""A store written by an earlier release stays readable, and today's code names and digests its content alike.

``golden/store-1.json`` holds the files of a store, base64 by name, as release 0.1.0 wrote them under key 00
01 … 1f.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import JsonValue

from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.vault import DataKey

GOLDEN = json.loads((Path(__file__).parent / "golden" / "store-1.json").read_text())
META: dict[str, JsonValue] = {"step": 100, "epsilon": 1.25, "note": "golden ✓"}
TENSORS = {
    "bf16": torch.arange(6, dtype=torch.float32).reshape(2, 3).to(torch.bfloat16),
    "bool": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 2, dtype=torch.float64),
    "two-blocks": torch.arange(65_540, dtype=torch.int32),
    "scalar": torch.tensor(-0.5),
}


@pytest.fixture
def golden(root: Path) -> BlockStore:
    for name, content in GOLDEN["files"].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(base64.b64decode(content))
    return BlockStore(DirectoryBackend(root))


def test_the_golden_store_is_still_readable(golden: BlockStore, key: DataKey) -> None:
    stored = golden.read(key, GOLDEN["id"], expected_digest=GOLDEN["digest"])
    assert stored.meta == META
    assert stored.kind == "checkpoint"
    assert stored.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert stored.tensors[name].dtype == tensor.dtype
        assert torch.equal(stored.tensors[name], tensor)


def test_the_same_content_gets_the_same_names_and_digest_today(golden: BlockStore, key: DataKey) -> None:
    ref = golden.write(key, TENSORS, META, manifest_id=GOLDEN["id"], kind="checkpoint")
    assert (ref.digest, ref.new_blocks, ref.stored_bytes) == (GOLDEN["digest"], 0, 0)


def test_a_block_is_what_the_document_says(golden: BlockStore, root: Path, key: DataKey) -> None:
    """Name and open a block by hand, following docs/envelope-format.md."""

    def hkdf(info: bytes) -> bytes:
        prk = hmac.digest(bytes(32), key.reveal(), "sha256")
        return hmac.digest(prk, info + b"\x01", "sha256")

    plain = TENSORS["bool"].numpy().tobytes()
    name = hmac.digest(hkdf(b"secure-train/block-id/1"), b"BOOL\0" + plain, "sha256")
    stored = (root / "blocks" / name.hex()[:2] / name.hex()).read_bytes()
    header, nonce, sealed = stored[:10], stored[10:22], stored[22:]
    assert header == b"STBK\x01" + b"\x00" + (3).to_bytes(4, "big")
    block_key = hmac.digest(
        hkdf(b"secure-train/block-key/1"), b"secure-train/block/1" + name + b"\x01", "sha256"
    )
    assert AESGCM(block_key).decrypt(nonce, sealed, header + name + b"BOOL") == plain
    assert golden.open(key, GOLDEN["id"]).tensors["bool"].sha256 == hashlib.sha256(plain).hexdigest()
