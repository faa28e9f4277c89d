"""A store in a temporary directory, and ways to age and to damage what is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from secure_train.blocks import BlockStore, DirectoryBackend
from secure_train.vault import DataKey


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def backend(root: Path) -> DirectoryBackend:
    return DirectoryBackend(root)


@pytest.fixture
def store(backend: DirectoryBackend) -> BlockStore:
    return BlockStore(backend)


@pytest.fixture
def key() -> DataKey:
    return DataKey(bytes(range(32)))


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """Two tensors of several blocks each, and the small ones that every checkpoint has."""
    generator = torch.Generator().manual_seed(7)
    return {
        "weight": torch.randn(300, 700, generator=generator),
        "moment": torch.randn(1000, 400, generator=generator).to(torch.bfloat16),
        "bias": torch.randn(10, generator=generator),
        "step": torch.tensor(12, dtype=torch.int64),
        "empty": torch.empty(0, 4),
    }


@pytest.fixture
def age(root: Path) -> Callable[[], None]:
    """Make everything in the store look two hours old."""

    def make_old() -> None:
        then = time.time() - 7200
        for path in root.rglob("*"):
            os.utime(path, (then, then))

    return make_old
