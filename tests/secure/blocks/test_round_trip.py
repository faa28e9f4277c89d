"""Whatever tensors go in come out, to the bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from secure_train.blocks import (
    BlockStore,
    DirectoryBackend,
    InvalidMeta,
    UnknownTensor,
    UnsafeName,
    UnsupportedTensor,
)
from secure_train.blocks.cipher import BLOCK_BYTES
from secure_train.blocks.dtypes import DTYPES
from secure_train.vault import DataKey

KEY = DataKey(bytes(32))
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal type, shape and bytes: unlike ``torch.equal``, also for NaN and for signed zeros."""

    def raw(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous().reshape(-1).view(torch.uint8)

    return (
        first.dtype == second.dtype and first.shape == second.shape and torch.equal(raw(first), raw(second))
    )


@st.composite
def random_tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype, shape = DTYPES[draw(st.sampled_from(sorted(DTYPES)))], draw(SHAPES)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = torch.tensor(list(draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    tensor = raw.remainder(2).bool() if dtype is torch.bool else raw.view(dtype)
    tensor = tensor.reshape(shape)
    return tensor.T if draw(st.booleans()) and tensor.dim() == 2 else tensor


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=5), random_tensors(), max_size=4))
def test_tensors_of_every_type_and_shape_round_trip(tensors: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = BlockStore(DirectoryBackend(Path(folder)))
        ref = store.write(KEY, tensors, {}, manifest_id="a", kind="test")
        read = store.read(KEY, ref).tensors
    assert read.keys() == tensors.keys()
    assert all(same_bits(read[name], tensors[name]) for name in tensors)
    assert ref.logical_bytes == sum(tensor.nbytes for tensor in tensors.values())


@settings(max_examples=30, deadline=None)
@example({"beyond the integers": [2.0**53, -3.276408953393551e16, 1e20], "whole": 4.0})
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_metadata_round_trips(meta: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = BlockStore(DirectoryBackend(Path(folder)))
        ref = store.write(KEY, {}, meta, manifest_id="a", kind="test")  # type: ignore[arg-type]  # it is JSON
        assert store.read(KEY, ref).meta == meta


@pytest.mark.parametrize(
    "elements", [1, BLOCK_BYTES // 4 - 1, BLOCK_BYTES // 4, BLOCK_BYTES // 4 + 1, 200_000]
)
def test_tensors_around_the_block_size_round_trip(store: BlockStore, key: DataKey, elements: int) -> None:
    tensor = torch.arange(elements, dtype=torch.float32)
    ref = store.write(key, {"t": tensor}, {}, manifest_id="a", kind="test")
    assert ref.new_blocks == -(-elements * 4 // BLOCK_BYTES)
    assert same_bits(store.read(key, ref).tensors["t"], tensor)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=">f4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
        np.arange(20)[::-3],
        np.array(2.5),
        np.zeros((0, 3), np.uint8),
        np.array([True, False]),
        np.array([1 + 2j], np.complex64),
    ],
    ids=["big endian", "column order", "reversed", "no dimensions", "no rows", "bool", "complex"],
)
def test_numpy_arrays_come_back_as_tensors_of_equal_value(
    store: BlockStore, key: DataKey, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    ref = store.write(key, {"a": array}, {}, manifest_id="a", kind="test")
    read = store.read(key, ref).tensors["a"]
    assert tuple(read.shape) == array.shape
    np.testing.assert_array_equal(read.numpy(), array)


def test_views_conjugates_and_parameters_are_stored_by_value(store: BlockStore, key: DataKey) -> None:
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    complex_base = torch.tensor([1 + 2j, 3 - 1j])
    given = {
        "strided": base[::2, 1::3],
        "expanded": base[:1].expand(4, 12),
        "parameter": torch.nn.Parameter(base),
        "conjugate": complex_base.conj(),
        "negative": complex_base.conj().imag,
    }
    ref = store.write(key, given, {}, manifest_id="a", kind="test")
    read = store.read(key, ref).tensors
    assert all(torch.equal(read[name], given[name]) for name in given)


def test_one_tensor_is_read_without_the_blocks_of_the_others(
    store: BlockStore, backend: DirectoryBackend, key: DataKey, tensors: dict[str, torch.Tensor]
) -> None:
    ref = store.write(key, tensors, {"step": 12}, manifest_id="a", kind="checkpoint")
    opened = store.open(key, ref)
    for block in opened.tensors["moment"].blocks:
        backend.delete(f"blocks/{block[:2]}/{block}")
    assert same_bits(opened.tensor("weight"), tensors["weight"])
    assert (opened.kind, opened.meta, opened.digest) == ("checkpoint", {"step": 12}, ref.digest)
    assert (opened.tensors["moment"].dtype, opened.tensors["moment"].shape) == ("BF16", (1000, 400))
    with pytest.raises(UnknownTensor, match="'absent'"):
        opened.tensor("absent")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, dtype=torch.complex128),
        torch.zeros(3).to_sparse(),
        torch.empty(3, device="meta"),
        np.array(["text"]),
        np.array([object()]),
        [1.0, 2.0],
    ],
    ids=["complex128", "sparse", "meta", "strings", "objects", "list"],
)
def test_what_has_no_stored_form_is_refused_by_name_before_anything_is_stored(
    store: BlockStore, root: Path, key: DataKey, tensor: torch.Tensor
) -> None:
    with pytest.raises(UnsupportedTensor, match="'layer'"):
        store.write(key, {"a": torch.ones(3), "layer": tensor}, {}, manifest_id="a", kind="test")
    assert not list(root.iterdir())


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, {1: 2}, b"bytes", {"a": object()}, "\ud800"]
)
def test_metadata_that_json_can_not_hold_is_refused_before_anything_is_stored(
    store: BlockStore, root: Path, key: DataKey, value: object
) -> None:
    with pytest.raises(InvalidMeta):
        store.write(key, {"a": torch.ones(3)}, {"k": value}, manifest_id="a", kind="test")  # type: ignore[dict-item]
    assert not list(root.iterdir())


@pytest.mark.parametrize(
    "manifest_id", ["", "../a", "a/../b", "/a", "a//b", "a/", ".a", "a/.tmp-1", "A", "a b", "é", "a\n"]
)
def test_ids_that_could_lead_out_of_the_store_are_refused(
    store: BlockStore, key: DataKey, manifest_id: str
) -> None:
    with pytest.raises(UnsafeName):
        store.write(key, {}, {}, manifest_id=manifest_id, kind="test")
    with pytest.raises(UnsafeName):
        store.read(key, manifest_id)
