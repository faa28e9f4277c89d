"""The read path: an opened manifest, and tensors out of verified blocks."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import JsonValue

from secure_train.vault import DataKey

from .backend import BlockBackend
from .cipher import BLOCK_BYTES, BlockCipher, UnreadableBlock
from .dtypes import from_bytes
from .errors import CorruptBlock, CorruptManifest, MissingBlock, NotStored, UnknownTensor
from .manifest import Manifest, TensorRecord
from .names import block_name
from .parallel import ordered


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that one manifest holds."""

    tensors: dict[str, torch.Tensor]
    meta: Mapping[str, JsonValue]
    kind: str
    digest: str


class OpenManifest:
    """A verified manifest whose tensors are read one at a time, when they are asked for."""

    def __init__(self, backend: BlockBackend, data_key: DataKey, manifest: Manifest, digest: str) -> None:
        self._backend = backend
        self._cipher = BlockCipher(data_key)
        self._records = {record.name: record for record in manifest.tensors}
        self.manifest = manifest
        self.digest = digest

    @property
    def meta(self) -> Mapping[str, JsonValue]:
        """The metadata that was written."""
        return self.manifest.meta

    @property
    def kind(self) -> str:
        """What the writer said this is."""
        return self.manifest.kind

    @property
    def tensors(self) -> Mapping[str, TensorRecord]:
        """Type, shape and digest of every tensor, by name."""
        return self._records

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor; raises UnknownTensor, MissingBlock, CorruptBlock, CorruptManifest."""
        record = self._records.get(name)
        if record is None:
            raise UnknownTensor(f"manifest {self.manifest.id} lists no tensor {name!r}")
        return next(self._read([record]))

    def read_all(self) -> Stored:
        """Read every tensor."""
        tensors = dict(zip(self._records, self._read(list(self._records.values())), strict=True))
        return Stored(tensors, self.meta, self.kind, self.digest)

    def _read(self, records: Sequence[TensorRecord]) -> Iterator[torch.Tensor]:
        """Yield the tensors in order, the blocks of all of them read by one set of threads."""
        wanted = ((record, index) for record in records for index in range(len(record.blocks)))
        with contextlib.closing(ordered(self._read_block, wanted)) as plain_blocks:
            for record in records:
                data, content = torch.empty(record.nbytes, dtype=torch.uint8), hashlib.sha256()
                target = data.numpy().data
                for index, plain in enumerate(itertools.islice(plain_blocks, len(record.blocks))):
                    target[index * BLOCK_BYTES : index * BLOCK_BYTES + len(plain)] = plain
                    content.update(plain)
                if content.hexdigest() != record.sha256:
                    raise self._blame(record, target)
                yield from_bytes(data, record.dtype, record.shape)

    def _read_block(self, wanted: tuple[TensorRecord, int]) -> bytes:
        record, index = wanted
        block_id = record.blocks[index]
        try:
            stored = self._backend.get(block_name(block_id))
        except NotStored:
            raise MissingBlock(record.name, index, f"{block_name(block_id)} is gone: restore it") from None
        try:
            return self._cipher.open(block_id, record.dtype, record.block_length(index), stored)
        except UnreadableBlock as error:
            raise CorruptBlock(record.name, index, str(error)) from None

    def _blame(self, record: TensorRecord, data: memoryview) -> CorruptBlock | CorruptManifest:
        """Every block verified, yet the whole is wrong: a holder of the key resealed a part of it."""
        for index, block_id in enumerate(record.blocks):
            plain = bytes(data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
            if self._cipher.block_id(record.dtype, plain) != block_id:
                return CorruptBlock(
                    record.name, index, "its content was replaced by somebody who holds the data key"
                )
        return CorruptManifest(
            f"manifest {self.manifest.id}: the blocks of tensor {record.name!r} do not have its digest"
        )
