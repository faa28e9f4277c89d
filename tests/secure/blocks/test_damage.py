"""Every kind of damage is noticed, and the error says which block of which tensor it concerns."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_train import vault
from secure_train.blocks import (
    BackendFailed,
    BlockStore,
    CorruptBlock,
    CorruptManifest,
    DirectoryBackend,
    ManifestRef,
    MissingBlock,
    MissingManifest,
    WrongDigest,
    WrongKey,
)
from secure_train.blocks.cipher import BlockCipher
from secure_train.blocks.manifest import canonical_json, digest_of, seal_manifest
from secure_train.vault import DataKey


@pytest.fixture
def ref(store: BlockStore, key: DataKey, tensors: dict[str, torch.Tensor]) -> ManifestRef:
    return store.write(key, tensors, {"step": 12}, manifest_id="job-1/step-12", kind="checkpoint")


def block_path(root: Path, store: BlockStore, key: DataKey, tensor: str, index: int) -> Path:
    block = store.open(key, "job-1/step-12").tensors[tensor].blocks[index]
    return root / "blocks" / block[:2] / block


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_flipped_bit_in_any_block_is_blamed_on_that_block(
    data: st.DataObject, store: BlockStore, root: Path, key: DataKey, ref: ManifestRef
) -> None:
    tensor, index = data.draw(
        st.sampled_from([("weight", i) for i in range(4)] + [("moment", 2), ("step", 0)])
    )
    path = block_path(root, store, key, tensor, index)
    intact = path.read_bytes()
    # The header's few bytes are drawn as often as the many others.
    position = data.draw(st.integers(0, 21) | st.integers(0, len(intact) - 1))
    altered = bytearray(intact)
    altered[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(altered)
    try:
        with pytest.raises(CorruptBlock) as caught:
            store.read(key, ref)
    finally:
        path.write_bytes(intact)
    assert (caught.value.tensor, caught.value.index) == (tensor, index)
    assert f"block {index} of tensor {tensor!r}" in str(caught.value)


@pytest.mark.parametrize("length", [0, 5, 37, 38, 1000, -1])
def test_a_truncated_block_is_blamed(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef, length: int
) -> None:
    path = block_path(root, store, key, "weight", 1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptBlock) as caught:
        store.read(key, ref)
    assert (caught.value.tensor, caught.value.index) == ("weight", 1)


def test_a_damaged_block_is_replaced_when_its_content_is_written_again(
    store: BlockStore, root: Path, key: DataKey, tensors: dict[str, torch.Tensor], ref: ManifestRef
) -> None:
    path = block_path(root, store, key, "weight", 0)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    again = store.write(key, tensors, {}, manifest_id="again", kind="checkpoint")
    assert again.new_blocks == 1
    assert set(store.read(key, "again").tensors) == set(tensors)


def test_swapped_blocks_are_noticed(store: BlockStore, root: Path, key: DataKey, ref: ManifestRef) -> None:
    first, second = (block_path(root, store, key, "weight", index) for index in (0, 1))
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes)
    second.write_bytes(first_bytes)
    with pytest.raises(CorruptBlock) as caught:
        store.read(key, ref)
    assert (caught.value.tensor, caught.value.index) == ("weight", 0)


def test_a_missing_block_is_named(store: BlockStore, root: Path, key: DataKey, ref: ManifestRef) -> None:
    block_path(root, store, key, "moment", 3).unlink()
    with pytest.raises(MissingBlock) as caught:
        store.read(key, ref)
    assert (caught.value.tensor, caught.value.index) == ("moment", 3)


def test_another_key_opens_nothing(store: BlockStore, ref: ManifestRef) -> None:
    with pytest.raises(WrongKey, match="job-1/step-12") as caught:
        store.read(DataKey.generate(), ref)
    assert isinstance(caught.value, vault.WrongKey)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_the_manifest_is_noticed(
    data: st.DataObject, store: BlockStore, root: Path, key: DataKey, ref: ManifestRef
) -> None:
    path = root / "manifests" / "job-1" / "step-12"
    intact = path.read_bytes()
    altered = bytearray(intact)
    altered[data.draw(st.integers(0, len(intact) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(altered)
    try:
        with pytest.raises((CorruptManifest, WrongKey), match="job-1/step-12"):
            store.read(key, ref)
    finally:
        path.write_bytes(intact)


def test_a_manifest_under_another_id_is_refused(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef
) -> None:
    folder = root / "manifests" / "job-1"
    (folder / "step-13").write_bytes((folder / "step-12").read_bytes())
    with pytest.raises(CorruptManifest, match="job-1/step-13"):
        store.read(key, "job-1/step-13")


def test_a_manifest_that_is_not_there_is_named(store: BlockStore, key: DataKey) -> None:
    with pytest.raises(MissingManifest, match="job-1/step-99"):
        store.read(key, "job-1/step-99")


def test_an_expected_digest_pins_the_manifest(store: BlockStore, key: DataKey, ref: ManifestRef) -> None:
    assert store.read(key, ref.id, expected_digest=ref.digest).digest == ref.digest
    with pytest.raises(WrongDigest, match="0" * 64):
        store.read(key, ref.id, expected_digest="0" * 64)
    with pytest.raises(WrongDigest):
        store.read(key, replace(ref, digest="0" * 64))


def test_a_holder_of_the_key_can_not_replace_a_block_unnoticed(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef
) -> None:
    path = block_path(root, store, key, "weight", 2)
    forged = BlockCipher(key).seal(path.name, "F32", bytes(262_144))
    path.write_bytes(forged)
    with pytest.raises(CorruptBlock, match="holds the data key") as caught:
        store.read(key, ref)
    assert (caught.value.tensor, caught.value.index) == ("weight", 2)


def test_a_holder_of_the_key_can_not_state_another_tensor_digest(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef
) -> None:
    opened = store.open(key, ref)
    records = [
        record.model_copy(update={"sha256": "0" * 64}) if record.name == "weight" else record
        for record in opened.tensors.values()
    ]
    canonical = canonical_json(ref.id, "checkpoint", {"step": 12}, records)
    (root / "manifests" / ref.id).write_bytes(seal_manifest(key, ref.id, canonical))
    with pytest.raises(WrongDigest):
        store.read(key, ref)
    with pytest.raises(CorruptManifest, match="'weight'"):
        store.read(key, ref.id, expected_digest=digest_of(canonical))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": "secure-train/manifest/2"}, "format"),
        ({"block_bytes": 1}, "block_bytes"),
        ({"id": "other"}, "other"),
        ({"extra": 1}, "extra"),
        ({"tensors": [{"name": "a", "dtype": "F31", "shape": [], "sha256": "0" * 64, "blocks": []}]}, "F31"),
        (
            {"tensors": [{"name": "a", "dtype": "F32", "shape": [9], "sha256": "0" * 64, "blocks": []}]},
            "shape",
        ),
        (
            {"tensors": [{"name": "a", "dtype": "F32", "shape": [-1], "sha256": "0" * 64, "blocks": []}]},
            "shape",
        ),
        (
            {
                "tensors": [
                    {"name": "a", "dtype": "F32", "shape": [1], "sha256": "0" * 64, "blocks": ["../../x"]}
                ]
            },
            "blocks",
        ),
    ],
)
def test_a_well_sealed_manifest_of_another_shape_is_refused(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef, change: dict[str, object], where: str
) -> None:
    document = json.loads(canonical_json(ref.id, "checkpoint", {}, [])) | change
    sealed = seal_manifest(key, ref.id, json.dumps(document).encode())
    (root / "manifests" / ref.id).write_bytes(sealed)
    with pytest.raises(CorruptManifest, match=where):
        store.read(key, ref.id)


def test_a_symbolic_link_planted_in_the_store_is_not_followed(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef, tmp_path: Path
) -> None:
    path = block_path(root, store, key, "weight", 0)
    outside = tmp_path / "outside"
    os.rename(path.parent, outside)
    path.parent.symlink_to(outside)
    with pytest.raises(BackendFailed):
        store.read(key, ref)
    path.parent.unlink()
    path.parent.mkdir()
    path.symlink_to(outside / path.name)
    with pytest.raises(BackendFailed):
        store.read(key, ref)


def test_a_named_pipe_planted_in_the_store_does_not_hold_the_reader_up(
    store: BlockStore, root: Path, key: DataKey, ref: ManifestRef
) -> None:
    path = block_path(root, store, key, "weight", 0)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorruptBlock):
        store.read(key, ref)


def test_a_backend_that_can_not_store_says_so(root: Path, key: DataKey, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BackendFailed, match="file"):
        DirectoryBackend(tmp_path / "file")
