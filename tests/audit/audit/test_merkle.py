"""Roots and proofs against a naive recursive reading of RFC 9162, and against the vectors of earlier logs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_train.audit import ProofError, merkle, verify_consistency, verify_inclusion
from secure_train.audit.merkle import Frontier, Node

LEAVES = [merkle.leaf_hash(number.to_bytes(2)) for number in range(257)]


class Tree:
    """Every complete subtree of LEAVES, and the root at every size."""

    def __init__(self) -> None:
        frontier = Frontier()
        self.nodes: dict[Node, bytes] = {}
        self.roots = [frontier.root()]
        for leaf in LEAVES:
            self.nodes |= dict(frontier.push(leaf))
            self.roots.append(frontier.root())

    def read(self, wanted: Collection[Node]) -> Mapping[Node, bytes]:
        return {node: self.nodes[node] for node in wanted}


TREE = Tree()


# --- RFC 9162 as written, over LEAVES[start:end] ---


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


@cache
def mth(start: int, end: int) -> bytes:
    if end - start == 0:
        return sha256(b"").digest()
    if end - start == 1:
        return LEAVES[start]
    k = largest_power_below(end - start)
    return sha256(b"\x01" + mth(start, start + k) + mth(start + k, end)).digest()


def path(m: int, start: int, end: int) -> list[bytes]:
    n = end - start
    if n == 1:
        return []
    k = largest_power_below(n)
    if m < k:
        return [*path(m, start, start + k), mth(start + k, end)]
    return [*path(m - k, start + k, end), mth(start, start + k)]


def subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = largest_power_below(n)
    if m <= k:
        return [*subproof(m, start, start + k, whole), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, False), mth(start, start + k)]


def test_roots_are_those_of_the_rfc_for_every_size() -> None:
    for size in range(258):
        assert TREE.roots[size] == mth(0, size)
        assert merkle.root_of(size, TREE.read) == mth(0, size)


def test_inclusion_proofs_at_every_size_are_those_of_the_rfc_and_verify() -> None:
    for size in range(1, 257):
        indices = range(size) if size <= 40 else {0, 1, size // 3, size // 2, size - 2, size - 1}
        for index in indices:
            proof = merkle.inclusion_proof(index, size, TREE.read)
            assert list(proof) == path(index, 0, size)
            verify_inclusion(LEAVES[index], index, size, proof, mth(0, size))


def test_the_consistency_proofs_of_all_pairs_of_sizes_are_those_of_the_rfc_and_verify() -> None:
    for new in range(257):
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, TREE.read)
            assert list(proof) == (subproof(old, 0, new, True) if old else [])
            verify_consistency(old, new, proof, mth(0, old), mth(0, new))


# Source: github.com/google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc.
CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_CONSISTENCY_6_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]


def test_the_vectors_of_certificate_transparency_hold() -> None:
    frontier = Frontier()
    nodes: dict[Node, bytes] = {}
    for leaf, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        nodes |= dict(frontier.push(merkle.leaf_hash(bytes.fromhex(leaf))))
        assert frontier.root().hex() == root
    proof = merkle.consistency_proof(6, 8, lambda wanted: {node: nodes[node] for node in wanted})
    assert [digest.hex() for digest in proof] == CT_CONSISTENCY_6_8
    verify_consistency(6, 8, proof, bytes.fromhex(CT_ROOTS[5]), bytes.fromhex(CT_ROOTS[7]))


def flipped(digest: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8) if at == bit // 8 else byte for at, byte in enumerate(digest))


sizes = st.integers(1, 256)


@given(size=sizes, data=st.data())
def test_an_inclusion_proof_with_anything_changed_is_refused(size: int, data: st.DataObject) -> None:
    index, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 255))
    proof, root, leaf = merkle.inclusion_proof(index, size, TREE.read), mth(0, size), LEAVES[index]
    with pytest.raises(ProofError):
        verify_inclusion(flipped(leaf, bit), index, size, proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(leaf, index, size, proof, flipped(root, bit))
    with pytest.raises(ProofError):
        verify_inclusion(leaf, index, size, [*proof, root], root)
    with pytest.raises(ProofError):
        verify_inclusion(leaf, (index + 1) % (size + 1), size, proof, root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        with pytest.raises(ProofError):
            verify_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], root)
        changed = [flipped(digest, bit) if place == at else digest for place, digest in enumerate(proof)]
        with pytest.raises(ProofError):
            verify_inclusion(leaf, index, size, changed, root)


@given(new=sizes, data=st.data())
def test_a_consistency_proof_with_anything_changed_is_refused(new: int, data: st.DataObject) -> None:
    old, bit = data.draw(st.integers(1, new)), data.draw(st.integers(0, 255))
    proof, old_root, new_root = merkle.consistency_proof(old, new, TREE.read), mth(0, old), mth(0, new)
    with pytest.raises(ProofError):
        verify_consistency(old, new, proof, flipped(old_root, bit), new_root)
    with pytest.raises(ProofError):
        verify_consistency(old, new, proof, old_root, flipped(new_root, bit))
    with pytest.raises(ProofError):
        verify_consistency(old, new, [*proof, old_root], old_root, new_root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        with pytest.raises(ProofError):
            verify_consistency(old, new, proof[:at] + proof[at + 1 :], old_root, new_root)
        changed = [flipped(digest, bit) if place == at else digest for place, digest in enumerate(proof)]
        with pytest.raises(ProofError):
            verify_consistency(old, new, changed, old_root, new_root)


def test_impossible_questions_are_refused() -> None:
    for index, size in [(-1, 4), (4, 4), (0, 0)]:
        with pytest.raises(ProofError):
            merkle.inclusion_proof(index, size, TREE.read)
        with pytest.raises(ProofError):
            verify_inclusion(LEAVES[0], index, size, [], mth(0, size))
    for old, new in [(-1, 4), (5, 4)]:
        with pytest.raises(ProofError):
            merkle.consistency_proof(old, new, TREE.read)
        with pytest.raises(ProofError):
            verify_consistency(old, new, [], LEAVES[0], LEAVES[0])
    with pytest.raises(ProofError, match="32 bytes"):
        verify_inclusion(LEAVES[0], 0, 1, [], b"short")


def test_an_empty_old_tree_must_have_the_empty_root() -> None:
    verify_consistency(0, 9, [], merkle.EMPTY_ROOT, mth(0, 9))
    with pytest.raises(ProofError):
        verify_consistency(0, 9, [], mth(0, 1), mth(0, 9))


def test_nodes_of_a_tree_never_share_a_number() -> None:
    numbers = [node.number for node in TREE.nodes]
    assert len(set(numbers)) == len(numbers) == 2 * 257 - (257).bit_count()
    assert [Node(0, leaf).number for leaf in range(4)] == [0, 2, 4, 6]


def test_a_frontier_needs_its_peaks() -> None:
    with pytest.raises(ValueError, match="2 peaks"):
        Frontier(5, [LEAVES[0]])
