"""Vaults to test with: opened by a key file, which is quick; a passphrase takes a tenth of a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_train.vault import KeyContext, KeyFile, SealedFileVault


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile.create(tmp_path / "vault.key")


@pytest.fixture
def vault_path(tmp_path: Path) -> Path:
    return tmp_path / "vault.json"


@pytest.fixture
def vault(vault_path: Path, key_file: KeyFile) -> SealedFileVault:
    return SealedFileVault.create(vault_path, key_file)


@pytest.fixture
def context() -> KeyContext:
    return KeyContext("acme", "patients@1", "dataset")
