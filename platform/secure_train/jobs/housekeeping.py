"""Deleting what no job needs any more: manifests of expired checkpoints and orphans, then their blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from secure_train.blocks import BlockStore, Entry
from secure_train.db import Database, now
from secure_train.db.tables import Job, JobCheckpoint
from secure_train.jobs.keys import code_manifest, job_key
from secure_train.jobs.lineage import good_checkpoints
from secure_train.jobs.locks import lock_job
from secure_train.jobs.states import TERMINAL, JobState
from secure_train.registry.sealing import live_manifests
from secure_train.vault import DataKey, SealedFileVault

logger = logging.getLogger(__name__)

JOB_FOLDER = "job_"
REGISTRY_FOLDERS = ("datasets/", "models/")


@dataclass(frozen=True)
class Housekeeping:
    """When it is done.

    Attributes:
        sweep: seconds between two looks at the manifests.
        collect: seconds between two collections of blocks.
        orphan: a manifest that no row names is garbage after so long; until then its row may be under way.
        grace: blocks younger than this are left alone by a collection.
    """

    sweep: float = 60.0
    collect: float = 6 * 3600.0
    orphan: timedelta = timedelta(days=1)
    grace: timedelta = timedelta(days=2)


class Housekeeper:
    """Sweeps manifests, and collects blocks now and then. Whatever it deletes, no row needs."""

    def __init__(
        self, database: Database, vault: SealedFileVault, blocks: BlockStore, plan: Housekeeping | None = None
    ) -> None:
        self._database = database
        self._vault = vault
        self._blocks = blocks
        self._plan = Housekeeping() if plan is None else plan
        self._swept_at = self._collected_at = time.monotonic()

    def tick(self) -> None:
        """Do what is due."""
        if time.monotonic() - self._swept_at >= self._plan.sweep:
            self._swept_at = time.monotonic()
            self.sweep()
        if time.monotonic() - self._collected_at >= self._plan.collect:
            self._collected_at = time.monotonic()
            self.collect()

    def sweep(self) -> None:
        """Delete the manifests that nothing needs."""
        jobs: dict[str, list[Entry]] = {}
        others: list[Entry] = []
        for entry in self._blocks.manifests():
            folder = entry.name.partition("/")[0]
            if folder.startswith(JOB_FOLDER):
                jobs.setdefault(folder, []).append(entry)
            elif entry.name.startswith(REGISTRY_FOLDERS):
                others.append(entry)
        for job_id, entries in jobs.items():
            self._sweep_job(job_id, entries)
        orphans = [entry.name for entry in others if self._is_old(entry)]
        if orphans:
            with self._database.read() as session:
                needed = {manifest_id for _, manifest_id in live_manifests(session, self._vault)}
            for manifest_id in orphans:
                if manifest_id not in needed:
                    self._blocks.delete_manifest(manifest_id)

    def collect(self) -> None:
        """Delete the blocks that no manifest refers to."""
        with self._database.read() as session:
            live = [*live_manifests(session, self._vault), *self._live_of_jobs(session)]
        report = self._blocks.collect_garbage(live, grace=self._plan.grace)
        logger.info("deleted %d unused blocks, %d bytes", report.deleted_blocks, report.deleted_bytes)

    def _sweep_job(self, job_id: str, entries: list[Entry]) -> None:
        # Under the job's lock, which recording a checkpoint holds too: what is needed now is not deleted.
        with self._database.write() as session:
            job = lock_job(session, job_id)
            needed = set() if job is None else needed_manifests(session, job)
            dropped = set() if job is None else _dropped(session, job)
            ended = job is not None and job.state in TERMINAL
            for entry in entries:
                garbage = ended or entry.name in dropped or self._is_old(entry)
                if garbage and entry.name not in needed:
                    self._blocks.delete_manifest(entry.name)

    def _live_of_jobs(self, session: Session) -> Iterator[tuple[DataKey, str]]:
        """Key and id of every manifest in the folder of a job, but for those that a sweep will delete."""
        stored: dict[str, set[str]] = {}
        for entry in self._blocks.manifests():
            folder = entry.name.partition("/")[0]
            if folder.startswith(JOB_FOLDER):
                stored.setdefault(folder, set()).add(entry.name)
        for job_id, names in stored.items():
            job = session.get(Job, job_id)
            if job is not None:
                key = job_key(self._vault, job)
                yield from ((key, name) for name in sorted(names))

    def _is_old(self, entry: Entry) -> bool:
        return now() - datetime.fromtimestamp(entry.modified, UTC) > self._plan.orphan


def needed_manifests(session: Session, job: Job) -> set[str]:
    """What a job may still be asked for: its code, and, unless it has succeeded, its good checkpoints."""
    if job.state == JobState.DENIED:
        return set()
    needed = {row.manifest_id for row in good_checkpoints(session, job)}
    return needed | {code_manifest(job.id)} if job.code_digest is not None else needed


def _dropped(session: Session, job: Job) -> set[str]:
    query = select(JobCheckpoint.manifest_id).where(
        JobCheckpoint.job_id == job.id, JobCheckpoint.state != "good"
    )
    return set(session.scalars(query))
