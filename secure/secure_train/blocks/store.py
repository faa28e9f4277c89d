"""The block store: named sets of tensors with metadata, encrypted, compressed, each distinct block once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from pydantic import JsonValue

from secure_train.vault import DataKey

from .backend import BlockBackend, Entry
from .dtypes import Array
from .errors import ManifestExists, MissingManifest, NotStored
from .garbage import GarbageReport, collect
from .manifest import canonical_json, digest_of, open_manifest, seal_manifest
from .names import MANIFESTS, manifest_name, manifest_of
from .reader import OpenManifest, Stored
from .writer import BlockWriter


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """What names a stored set of tensors, and what storing it took.

    ``digest`` pins metadata and content. ``stored_bytes`` and ``new_blocks`` count what this write added to
    the store: blocks that were there already cost nothing, and nothing at all is added where the manifest was
    there.
    """

    id: str
    digest: str
    tensors: int
    logical_bytes: int
    stored_bytes: int
    new_blocks: int


class BlockStore:
    """Datasets and checkpoints in a backend. Safe to use from several threads and processes at once.

    Blocks are shared between all that one data key seals (such as all checkpoints of a job), and with nothing
    else.
    """

    def __init__(self, backend: BlockBackend) -> None:
        self._backend = backend

    def write(
        self,
        key: DataKey,
        tensors: Mapping[str, torch.Tensor | Array],
        meta: Mapping[str, JsonValue],
        *,
        manifest_id: str,
        kind: str,
    ) -> ManifestRef:
        """Store the tensors and commit them under ``manifest_id``; on return all is durable.

        A crash before that leaves blocks without a manifest, which ``collect_garbage`` removes. Ids are
        written once: the same content again is a no-op (so a write may be repeated after a crash), other
        content raises ManifestExists. The tensors must not change during the call. Raises UnsafeName,
        UnsupportedTensor, InvalidMeta before anything is stored; BlocksVanished, BackendFailed before
        anything is committed.
        """
        name = manifest_name(manifest_id)
        canonical_json(manifest_id, kind, meta, [])  # refuses unusable metadata before anything is stored
        written = BlockWriter(self._backend, key).write(tensors)
        canonical = canonical_json(manifest_id, kind, meta, written.tensors)
        sealed = seal_manifest(key, manifest_id, canonical)
        digest, stored_bytes, new_blocks = digest_of(canonical), written.stored_bytes, written.new_blocks
        if self._backend.create(name, sealed):
            stored_bytes += len(sealed)
        elif self.open(key, manifest_id).digest != digest:
            raise ManifestExists(
                f"manifest {manifest_id} is stored with other content: choose another id, or delete it first"
            )
        return ManifestRef(
            manifest_id, digest, len(written.tensors), written.logical_bytes, stored_bytes, new_blocks
        )

    def open(
        self, key: DataKey, ref: ManifestRef | str, *, expected_digest: str | None = None
    ) -> OpenManifest:
        """Return the verified manifest; its tensors are read when asked for.

        A ManifestRef pins its own digest. Raises MissingManifest, WrongKey, WrongDigest, CorruptManifest.
        """
        manifest_id = ref.id if isinstance(ref, ManifestRef) else ref
        if isinstance(ref, ManifestRef) and expected_digest is None:
            expected_digest = ref.digest
        try:
            stored = self._backend.get(manifest_name(manifest_id))
        except NotStored:
            raise MissingManifest(
                f"there is no manifest {manifest_id}: it was never committed, or was deleted"
            ) from None
        manifest, digest = open_manifest(key, manifest_id, stored, expected_digest)
        return OpenManifest(self._backend, key, manifest, digest)

    def read(self, key: DataKey, ref: ManifestRef | str, *, expected_digest: str | None = None) -> Stored:
        """Read everything. Raises what ``open`` does; CorruptBlock, MissingBlock name tensor and index."""
        return self.open(key, ref, expected_digest=expected_digest).read_all()

    def manifests(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the id, sealed size and time of every manifest whose id lies under the folder ``prefix``."""
        for entry in self._backend.list(manifest_name(prefix) if prefix else MANIFESTS):
            yield Entry(manifest_of(entry.name), entry.size, entry.modified)

    def delete_manifest(self, manifest_id: str) -> bool:
        """Delete the manifest, durably; False if it was not there. Its blocks go with the next collection."""
        return self._backend.delete(manifest_name(manifest_id))

    def collect_garbage(
        self, live: Iterable[tuple[DataKey, str]], *, grace: timedelta, dry_run: bool = False
    ) -> GarbageReport:
        """Delete the blocks that no live manifest refers to and that nobody touched for ``grace``.

        ``live`` names every manifest to keep, with its data key. Raises GraceTooShort; UnlistedManifests if
        one is stored that ``live`` lacks; and what ``open`` raises if one cannot be read. Nothing is deleted
        then.
        """
        opened = [(manifest_id, self.open(key, manifest_id).manifest) for key, manifest_id in live]
        return collect(self._backend, opened, grace=grace, dry_run=dry_run)
