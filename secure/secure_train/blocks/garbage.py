"""Deleting the blocks that no manifest refers to.

A block is deleted only if no live manifest refers to it *and* nobody has put or touched it for ``grace``. A
write touches every block that it refers to, also those that it found stored, right before it commits its
manifest; the backend orders that against deletion. So a concurrent write is safe if ``grace`` exceeds the
time from collecting the list of live manifests to this call, plus the longest pause of a writer between a
block and its manifest, plus clock differences.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from .backend import BlockBackend
from .errors import GraceTooShort, UnlistedManifests
from .manifest import Manifest
from .names import BLOCKS, MANIFESTS, block_of, manifest_of

MINIMUM_GRACE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """What a collection deleted, or, with ``dry_run``, would have deleted."""

    dry_run: bool
    live_blocks: int
    young_blocks: int
    deleted_blocks: int
    deleted_bytes: int
    discarded_partial_files: int


def collect(
    backend: BlockBackend, live: Collection[tuple[str, Manifest]], *, grace: timedelta, dry_run: bool
) -> GarbageReport:
    """Delete what no live manifest refers to; raises GraceTooShort and UnlistedManifests before that."""
    if grace < MINIMUM_GRACE:
        raise GraceTooShort(f"a grace of {grace} is too short: use at least {MINIMUM_GRACE}")
    cutoff = time.time() - grace.total_seconds()
    _refuse_unlisted(backend, {manifest_id for manifest_id, _ in live}, cutoff)
    needed: set[str] = set().union(*(manifest.block_ids() for _, manifest in live))
    young = deleted = freed = 0
    for entry in backend.list(BLOCKS):
        if block_of(entry.name) in needed:
            continue
        old = entry.modified < cutoff
        if old and (dry_run or backend.delete_older(entry.name, cutoff)):
            deleted += 1
            freed += entry.size
        else:
            young += 1
    partial = 0 if dry_run else backend.discard_partial(cutoff)
    return GarbageReport(dry_run, len(needed), young, deleted, freed, partial)


def _refuse_unlisted(backend: BlockBackend, live: Collection[str], cutoff: float) -> None:
    """An incomplete list of live manifests would destroy data: refuse it, unless what it lacks is new."""
    unlisted = sorted(
        manifest_of(entry.name)
        for entry in backend.list(MANIFESTS)
        if entry.modified < cutoff and manifest_of(entry.name) not in live
    )
    if unlisted:
        raise UnlistedManifests(
            f"{len(unlisted)} stored manifests were not named as live, the first {unlisted[0]}: name them "
            "too, or delete them first with delete_manifest"
        )
