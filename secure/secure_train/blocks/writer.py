"""The write path: tensors to blocks, new blocks to the backend, the manifest last."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from secure_train.vault import DataKey

from .backend import BlockBackend
from .cipher import BLOCK_BYTES, BlockCipher, UnreadableBlock
from .dtypes import Array, describe, to_bytes
from .errors import BlocksVanished, NotStored
from .manifest import TensorRecord
from .names import block_name
from .parallel import ordered


@dataclass(frozen=True, slots=True)
class WrittenBlocks:
    """What writing a set of tensors came to. ``stored_bytes`` counts only blocks that were new."""

    tensors: tuple[TensorRecord, ...]
    logical_bytes: int
    stored_bytes: int
    new_blocks: int


class _Block(NamedTuple):
    tensor: str
    dtype: str
    plain: bytes


class BlockWriter:
    """Writes the blocks of one manifest. Each block is stored at most once, however often it occurs."""

    def __init__(self, backend: BlockBackend, data_key: DataKey) -> None:
        self._backend = backend
        self._cipher = BlockCipher(data_key)
        #: Blocks that a thread has taken on, and how many bytes it had to store for each.
        self._claimed: dict[str, int] = {}
        self._lock = threading.Lock()

    def write(self, tensors: Mapping[str, torch.Tensor | Array]) -> WrittenBlocks:
        """Store all tensors; on return every block is durable, young, and there. Raises BlocksVanished."""
        described = {name: describe(name, tensors[name]) for name in sorted(tensors)}
        contents = {name: hashlib.sha256() for name in described}
        ids: dict[str, list[str]] = {name: [] for name in described}

        def blocks() -> Iterator[_Block]:
            for name, (dtype, _) in described.items():
                data = to_bytes(tensors[name]).data
                for start in range(0, len(data), BLOCK_BYTES):
                    # A copy: what is hashed, named and encrypted stays the same if training goes on.
                    block = _Block(name, dtype, bytes(data[start : start + BLOCK_BYTES]))
                    contents[name].update(block.plain)
                    yield block

        for name, block_id in ordered(self._write_block, blocks()):
            ids[name].append(block_id)
        records = tuple(
            TensorRecord(
                name=name,
                dtype=dtype,
                shape=shape,
                sha256=contents[name].hexdigest(),
                blocks=tuple(ids[name]),
            )
            for name, (dtype, shape) in described.items()
        )
        names = {block_name(block) for record in records for block in record.blocks}
        if missing := self._backend.settle(names):
            raise BlocksVanished(
                f"{len(missing)} blocks were deleted while this write relied on them: write again, and "
                "collect garbage with a grace longer than a write takes"
            )
        return WrittenBlocks(
            tensors=records,
            logical_bytes=sum(record.nbytes for record in records),
            stored_bytes=sum(self._claimed.values()),
            new_blocks=sum(1 for size in self._claimed.values() if size),
        )

    def _write_block(self, block: _Block) -> tuple[str, str]:
        block_id = self._cipher.block_id(block.dtype, block.plain)
        with self._lock:
            claimed = block_id in self._claimed
            self._claimed.setdefault(block_id, 0)
        name = block_name(block_id)
        if not claimed and not self._is_stored(name, block_id, block):
            sealed = self._cipher.seal(block_id, block.dtype, block.plain)
            self._backend.put(name, sealed)
            self._claimed[block_id] = len(sealed)
        return block.tensor, block_id

    def _is_stored(self, name: str, block_id: str, block: _Block) -> bool:
        """Whether the block is stored, and whole: a damaged one must be replaced, not relied upon."""
        if not self._backend.touch(name):
            return False
        try:
            self._cipher.open(block_id, block.dtype, len(block.plain), self._backend.get(name))
        except (NotStored, UnreadableBlock):
            return False
        return True
