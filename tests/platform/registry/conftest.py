"""A project with people and files of rows, a real vault and a real block store."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.db import Database
from secure_train.db.trail import Trail
from secure_train.policy import Actor, Guard
from secure_train.registry.datasets import DatasetService
from secure_train.registry.models import ModelService
from secure_train.vault import KeyFile, SealedFileVault
from secure_train.wire.data import NewDataset

torch.set_num_threads(1)

SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "numeric", "lower": 10, "upper": 90},
        {"name": "note", "kind": "ignored"},
        {"name": "colour", "kind": "categorical", "categories": ["red", "green", "blue"]},
    ],
    "target": {"name": "y", "task": "binary", "classes": ["no", "yes"], "positive": "yes"},
    "holdout": {"fraction": 0.25},
}
MARKER = "a-note-that-nobody-may-see"


@dataclass(frozen=True)
class Census:
    """A project: `olga` owns its data, `erik` and `mia` are engineers in it; `zoe` is one in another."""

    olga: Actor
    erik: Actor
    mia: Actor
    zoe: Actor
    root: Actor
    schema = SCHEMA
    marker = MARKER

    def csv(self, count: int = 40) -> io.BytesIO:
        """Rows that fit the schema."""
        colours, labels = ("red", "green", "blue"), ("no", "yes")
        lines = ["age,note,colour,y"]
        lines += [f"{10 + n},{MARKER},{colours[n % 3]},{labels[n % 2]}" for n in range(count)]
        return io.BytesIO(("\n".join(lines) + "\n").encode())

    def request(self, **changed: Any) -> NewDataset:
        """A registration that is fine."""
        request: dict[str, Any] = {
            "name": "adult",
            "project": "census",
            "purposes": ["income-statistics"],
            "classification": 2,
            "budget_epsilon": 8.0,
            "budget_delta": 1e-5,
            "data_schema": SCHEMA,
            "format": "csv",
        }
        return NewDataset(**request | changed)


@pytest.fixture
def census(database: Database, rows: Any) -> Census:
    with database.write() as session:
        rows.project(session)
        rows.project(session, "other")

        def person(name: str, role: str, project: str) -> Actor:
            row = rows.principal(session, f"user:{name}", roles=(role,), projects=(project,))
            actor: Actor = rows.actor(session, row)
            return actor

        return Census(
            olga=person("olga", "data-owner", "census"),
            erik=person("erik", "engineer", "census"),
            mia=person("mia", "engineer", "census"),
            zoe=person("zoe", "engineer", "other"),
            root=person("root", "admin", "other"),
        )


@pytest.fixture
def vault(tmp_path: Path) -> SealedFileVault:
    return SealedFileVault.create(tmp_path / "vault.json", KeyFile.create(tmp_path / "vault.key"))


@pytest.fixture
def blocks(tmp_path: Path) -> BlockStore:
    return BlockStore(DirectoryBackend(tmp_path / "blocks"))


@pytest.fixture
def datasets(guard: Guard, audit: Trail, vault: SealedFileVault, blocks: BlockStore) -> DatasetService:
    return DatasetService(guard, audit, vault, blocks)


@pytest.fixture
def models(guard: Guard, audit: Trail, vault: SealedFileVault, blocks: BlockStore) -> ModelService:
    return ModelService(guard, audit, vault, blocks)


@pytest.fixture
def stored_files(tmp_path: Path) -> Callable[[], list[Path]]:
    """Call it for everything that lies in the block store."""
    return lambda: [path for path in (tmp_path / "blocks").rglob("*") if path.is_file()]
