"""Equal blocks are stored once per key, and the store shows nothing of what it holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from secure_train.blocks import BlockStore, DirectoryBackend, ManifestExists
from secure_train.blocks.cipher import BLOCK_BYTES
from secure_train.vault import DataKey

Tensors = dict[str, torch.Tensor]


def stored_blocks(root: Path) -> set[str]:
    return {path.name for path in (root / "blocks").rglob("*") if path.is_file()}


def test_a_second_checkpoint_stores_only_what_changed(
    store: BlockStore, key: DataKey, tensors: Tensors
) -> None:
    first = store.write(key, tensors, {"step": 1}, manifest_id="job/1", kind="checkpoint")
    changed = tensors | {"bias": tensors["bias"] + 1}
    second = store.write(key, changed, {"step": 2}, manifest_id="job/2", kind="checkpoint")
    assert first.new_blocks == sum(-(-tensor.nbytes // BLOCK_BYTES) for tensor in tensors.values())
    assert second.new_blocks == 1
    assert second.stored_bytes < first.stored_bytes / 100
    assert torch.equal(store.read(key, first).tensors["bias"], tensors["bias"])
    assert torch.equal(store.read(key, second).tensors["bias"], changed["bias"])


def test_one_changed_element_costs_one_block(store: BlockStore, key: DataKey, tensors: Tensors) -> None:
    store.write(key, tensors, {}, manifest_id="job/1", kind="checkpoint")
    tensors["weight"][150, 350] += 1
    assert store.write(key, tensors, {}, manifest_id="job/2", kind="checkpoint").new_blocks == 1


def test_equal_blocks_within_one_write_are_stored_once(store: BlockStore, root: Path, key: DataKey) -> None:
    zeros = torch.zeros(20 * BLOCK_BYTES, dtype=torch.uint8)
    ref = store.write(key, {"a": zeros, "b": zeros}, {}, manifest_id="a", kind="test")
    assert ref.new_blocks == len(stored_blocks(root)) == 1
    assert torch.equal(store.read(key, ref).tensors["b"], zeros)


def test_block_names_under_another_key_have_nothing_in_common(
    store: BlockStore, root: Path, key: DataKey, tensors: Tensors
) -> None:
    first = store.write(key, tensors, {}, manifest_id="a", kind="test")
    before = stored_blocks(root)
    second = store.write(DataKey.generate(), tensors, {}, manifest_id="b", kind="test")
    assert second.new_blocks == first.new_blocks
    assert len(stored_blocks(root)) == 2 * len(before)


def test_equal_bytes_of_another_type_are_other_blocks(store: BlockStore, key: DataKey) -> None:
    tensor = torch.arange(10, dtype=torch.float32)
    ref = store.write(key, {"a": tensor, "b": tensor.view(torch.int32)}, {}, manifest_id="a", kind="test")
    assert ref.new_blocks == 2


def test_nothing_readable_is_left_on_the_disk(store: BlockStore, root: Path, key: DataKey) -> None:
    marker = b"patient: Erika Mustermann"
    row = torch.frombuffer(bytearray(marker * 100), dtype=torch.uint8)
    # Once compressible and once, among random bytes, not: both codecs must hide it.
    noise = torch.randint(0, 256, (5000,), dtype=torch.uint8)
    store.write(
        key,
        {"erika-column": row, "noisy": torch.cat([noise, row[: len(marker)], noise])},
        {"note": marker.decode()},
        manifest_id="a",
        kind="mustermann-kind",
    )
    everything = b"".join(
        path.read_bytes() + path.name.encode() for path in root.rglob("*") if path.is_file()
    )
    for secret in (marker, b"Erika", b"erika-column", b"mustermann-kind", b"secure-train/manifest"):
        assert secret not in everything


def test_files_and_folders_are_private_whatever_the_umask(
    tmp_path: Path, key: DataKey, tensors: Tensors
) -> None:
    previous = os.umask(0)
    try:
        store = BlockStore(DirectoryBackend(tmp_path / "open"))
        store.write(key, tensors, {}, manifest_id="job/1", kind="checkpoint")
    finally:
        os.umask(previous)
    for path in [tmp_path / "open", *(tmp_path / "open").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_writing_the_same_again_changes_nothing(
    store: BlockStore, root: Path, key: DataKey, tensors: Tensors
) -> None:
    first = store.write(key, tensors, {"step": 1}, manifest_id="job/1", kind="checkpoint")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    again = store.write(key, tensors, {"step": 1}, manifest_id="job/1", kind="checkpoint")
    assert (again.digest, again.stored_bytes, again.new_blocks) == (first.digest, 0, 0)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", ["tensor", "meta", "kind"])
def test_a_committed_manifest_is_never_overwritten(
    store: BlockStore, key: DataKey, tensors: Tensors, change: str
) -> None:
    first = store.write(key, tensors, {"step": 1}, manifest_id="job/1", kind="checkpoint")
    other = tensors | {"bias": tensors["bias"] + 1} if change == "tensor" else tensors
    with pytest.raises(ManifestExists, match="job/1"):
        store.write(
            key,
            other,
            {"step": 2 if change == "meta" else 1},
            manifest_id="job/1",
            kind="model" if change == "kind" else "checkpoint",
        )
    assert torch.equal(store.read(key, first).tensors["bias"], tensors["bias"])


def test_the_digest_changes_with_any_bit_of_content(
    store: BlockStore, key: DataKey, tensors: Tensors
) -> None:
    first = store.write(key, tensors, {}, manifest_id="a", kind="test")
    store.delete_manifest("a")
    tensors["step"] += 1
    assert store.write(key, tensors, {}, manifest_id="a", kind="test").digest != first.digest


def test_manifests_are_listed_by_folder(store: BlockStore, key: DataKey) -> None:
    for manifest_id in ("job-1/step-1", "job-1/step-2", "job-10/step-1"):
        store.write(key, {}, {}, manifest_id=manifest_id, kind="test")
    assert {entry.name for entry in store.manifests("job-1")} == {"job-1/step-1", "job-1/step-2"}
    assert len(list(store.manifests())) == 3
    assert list(store.manifests("job-2")) == []
