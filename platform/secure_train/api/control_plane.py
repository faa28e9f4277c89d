"""The composition root: every service of the control plane, built once from the settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from secure_train.api.evidence import EvidenceService
from secure_train.api.reporting import ReportService
from secure_train.api.settings import Settings
from secure_train.audit import AuditLog, CheckpointPolicy, NoteSigner
from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.db import Database
from secure_train.db.trail import Trail
from secure_train.jobs.controller import Controller, Timing
from secure_train.jobs.errors import LauncherError
from secure_train.jobs.launcher import RayLauncher
from secure_train.jobs.search.admission import Admission
from secure_train.jobs.search.service import SearchService
from secure_train.jobs.submit import JobService
from secure_train.jobs.worker_service import WorkerService
from secure_train.policy import CapabilityIssuer, Guard, PolicyEngine
from secure_train.registry import Limits
from secure_train.registry.budgets import BudgetService
from secure_train.registry.datasets import DatasetService
from secure_train.registry.models import ModelService
from secure_train.vault import KeyFile, SealedFileVault

VAULT_FILE, KEY_FILE = "vault.json", "vault.key"


def open_vault(home: Path) -> SealedFileVault:
    """Open the home's vault, creating it and its key file on first use."""
    path, key_path = home / VAULT_FILE, home / KEY_FILE
    key = KeyFile(key_path) if key_path.exists() else KeyFile.create(key_path)
    return SealedFileVault.open(path, key) if path.exists() else SealedFileVault.create(path, key)


class ControlPlane:
    """All services, sharing one database, one policy engine, one vault and one audit trail."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url)
        self.log = AuditLog(settings.origin)
        self.trail = Trail(self.log)
        self.vault = open_vault(settings.home)
        self.signer = NoteSigner(settings.origin, self.vault.signing_key("audit"))
        self.engine = PolicyEngine.load(settings.policies)
        self.guard = Guard(self.database, self.engine, self.trail)
        self.issuer = CapabilityIssuer(self.vault.signing_key("capability"))
        self.blocks = BlockStore(DirectoryBackend(settings.block_store))
        limits = Limits(rows=settings.max_table_rows, unfolded_bytes=settings.max_table_bytes)
        self.datasets = DatasetService(self.guard, self.trail, self.vault, self.blocks, limits)
        self.budgets = BudgetService(self.guard, self.trail)
        self.models = ModelService(self.guard, self.trail, self.vault, self.blocks)
        self.jobs = JobService(self.guard, self.trail, self.database, self.vault, self.blocks, self.datasets)
        self.searches = SearchService(
            self.guard,
            self.trail,
            self.database,
            Admission(self.guard, self.trail, self.database, self.vault, self.blocks, self.datasets),
        )
        self.workers = WorkerService(
            self.guard,
            self.trail,
            self.vault,
            self.blocks,
            settings.block_store.as_uri(),
            self.issuer,
            self.datasets,
            self.models,
        )
        self.launcher = RayLauncher(settings.ray_address, settings.ray_token_file)
        self.evidence = EvidenceService(
            self.guard, self.trail, self.database, self.engine, self.vault, self.signer
        )
        self.reports = ReportService(self.database, self.trail, self.jobs)

    def controller(self) -> Controller:
        """Return a controller, which moves jobs along; a process runs one of them."""
        policy = CheckpointPolicy(self.settings.audit_every_events, self.settings.audit_every_seconds)
        return Controller(
            self.database,
            self.trail,
            self.vault,
            self.blocks,
            self.launcher,
            self.settings.url,
            self.signer,
            policy,
            timing=Timing(capacity=timedelta(seconds=self.settings.cluster_wait_seconds)),
        )

    def ray_state(self) -> str:
        """Say whether Ray answers."""
        if not self.settings.ray_address:
            return "not configured"
        try:
            self.launcher.status("any")
        except LauncherError as error:
            return str(error)
        return "reachable"

    def close(self) -> None:
        """Close the database."""
        self.database.close()
