"""RFC 9162 Merkle trees: pure functions of hashes, with no idea of where the hashes are kept.

A tree of n leaves is stored as the hashes of its *complete* subtrees, which never change once written:
`Node(level, position)` covers the leaves [position * 2^level, (position + 1) * 2^level). Roots and proofs of
any size up to n fold O(log n) of them. Source: RFC 9162, sections 2.1.1 (hashes), 2.1.3 (inclusion) and
2.1.4 (consistency).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple, TypeAlias

from secure_train.audit.errors import ProofError

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()


class Node(NamedTuple):
    """A complete subtree of 2^level leaves."""

    level: int
    position: int

    @property
    def number(self) -> int:
        """In-order number in a tree of any size: leaf i has 2i, a parent stands between its children's."""
        return ((2 * self.position + 1) << self.level) - 1

    @property
    def first_leaf(self) -> int:
        """Number of the leftmost leaf that the subtree covers."""
        return self.position << self.level


NodeReader: TypeAlias = Callable[[Collection[Node]], Mapping[Node, bytes]]
"""Looks up the hashes of complete subtrees; raises where one is missing."""


def leaf_hash(body: bytes) -> bytes:
    """SHA-256(0x00 || body)."""
    return sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the roots of its maximal complete subtrees, largest first.

    Holds O(log size) hashes, so trees of any size can be built as a stream.
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size.bit_count() != len(peaks):
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(peaks)}")
        self._size = size
        self._peaks = list(peaks)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def push(self, leaf: bytes) -> list[tuple[Node, bytes]]:
        """Add a leaf hash; returns every subtree that it completes, itself first (amortised two)."""
        completed = [(Node(0, self._size), leaf)]
        level, digest, rest = 0, leaf, self._size
        while rest & 1:
            level, digest, rest = level + 1, node_hash(self._peaks.pop(), digest), rest >> 1
            completed.append((Node(level, rest), digest))
        self._peaks.append(digest)
        self._size += 1
        return completed

    def root(self) -> bytes:
        """Root hash of the tree as it stands."""
        return _fold(self._peaks)


def peaks_of(size: int) -> list[Node]:
    """The maximal complete subtrees of a tree of `size` leaves, left to right."""
    return _subtrees(0, size)


def root_of(size: int, read: NodeReader) -> bytes:
    """MTH(D[size]) from stored subtrees (RFC 9162 section 2.1.1)."""
    return _resolve([(0, size)], read)[0]


def inclusion_proof(index: int, size: int, read: NodeReader) -> tuple[bytes, ...]:
    """PATH(index, D[size]), leaf to root (RFC 9162 section 2.1.3.1).

    Raises:
        ProofError: no leaf `index` in a tree of `size` leaves.
    """
    return _resolve(_inclusion_ranges(index, size), read)


def inclusion_nodes(index: int, size: int) -> set[Node]:
    """The subtrees that `inclusion_proof` reads, so that many proofs can share one look-up.

    Raises:
        ProofError: no leaf `index` in a tree of `size` leaves.
    """
    return {node for start, end in _inclusion_ranges(index, size) for node in _subtrees(start, end)}


def consistency_proof(old: int, new: int, read: NodeReader) -> tuple[bytes, ...]:
    """PROOF(old, D[new]) (RFC 9162 section 2.1.4.1); empty for old = 0 and for old = new.

    Raises:
        ProofError: not 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} leaves does not extend one of {old} leaves")
    if old in (0, new):
        return ()
    path: list[tuple[int, int]] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    if start > 0:  # the old tree is not itself a node of the new one: its last part is needed to rebuild it
        path.append((start, end))
    return _resolve(path[::-1], read)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that leaf hash `leaf` is number `index` of the tree of `size` leaves with `root`.

    RFC 9162 section 2.1.3.2.

    Raises:
        ProofError: it is not, or the proof is malformed.
    """
    _check_hashes([leaf, root, *proof])
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size} leaves")
    position, last, digest = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is longer than the tree is high")
        if position & 1 or position == last:
            digest = node_hash(sibling, digest)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            digest = node_hash(digest, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("the inclusion proof is shorter than the tree is high")
    if not compare_digest(digest, root):
        raise ProofError(f"leaf {index} is not in the tree of {size} leaves with this root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree (`new`, `new_root`) extends (`old`, `old_root`). RFC 9162 section 2.1.4.2.

    Raises:
        ProofError: it does not, or the proof is malformed.
    """
    _check_hashes([old_root, new_root, *proof])
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} leaves does not extend one of {old} leaves")
    if old in (0, new):
        expected = EMPTY_ROOT if old == 0 else new_root
        if proof or not compare_digest(old_root, expected):
            raise ProofError(f"the tree of {new} leaves does not extend the one of {old} leaves")
        return
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not hashes:
        raise ProofError("the consistency proof is empty")
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_digest = new_digest = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("the consistency proof is longer than the tree is high")
        if position & 1 or position == last:
            old_digest, new_digest = node_hash(sibling, old_digest), node_hash(sibling, new_digest)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_digest = node_hash(new_digest, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("the consistency proof is shorter than the tree is high")
    if not (compare_digest(old_digest, old_root) and compare_digest(new_digest, new_root)):
        raise ProofError(f"the tree of {new} leaves does not extend the one of {old} leaves")


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose hashes make the proof, leaf to root."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size} leaves")
    path: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (which is at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _subtrees(start: int, end: int) -> list[Node]:
    """The maximal complete subtrees of [start, end), left to right."""
    nodes = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Join adjacent complete subtrees, largest first, into the hash of their range."""
    if not peaks:
        return EMPTY_ROOT
    digest = peaks[-1]
    for peak in reversed(peaks[:-1]):
        digest = node_hash(peak, digest)
    return digest


def _resolve(ranges: Sequence[tuple[int, int]], read: NodeReader) -> tuple[bytes, ...]:
    """Hash of each range of leaves, from one look-up of all the subtrees involved."""
    parts = [_subtrees(start, end) for start, end in ranges]
    hashes = read({node for part in parts for node in part})
    return tuple(_fold([hashes[node] for node in part]) for part in parts)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(digest) != HASH_SIZE for digest in hashes):
        raise ProofError(f"every hash of a proof has {HASH_SIZE} bytes")
